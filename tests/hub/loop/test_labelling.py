"""Labelling: nobody gets another's picture, masks that nobody touched stay as they are, labels become commits."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from finetune.datasets import read_dataset
from hub.accounts.tokens import Scope
from hub.client.client import HubClient
from hub.errors import UnknownTaskError
from hub.loop.labelling.queue import Queue
from hub.migrations.tables_labelling import LABELLING
from hub.schemas import labels as s
from hub.services import Services
from registry.catalog.catalog import Catalog
from registry.catalog.migrations import REGISTRY
from registry.types import RepoId
from serving.instances import encode_masks
from tests.hub.loop.labels import (
    CELL,
    HEIGHT,
    WIDTH,
    Client,
    answer,
    box_mask,
    capture,
    frame,
    people,
    refused,
    ring_mask,
)


def test_masks_that_nobody_touched_reach_the_dataset_exactly(
    services: Services, as_job: Client, ready: dict[str, str], tmp_path: Path
) -> None:
    with as_job(ready["ann"]) as ann:
        seen = {}
        while (work := ann.next_label_task(CELL)) is not None:
            seen[work.task.source.removeprefix("capture ")] = [one.mask.counts for one in work.regions]
            done = ann.accept_labels(work.task.id, answer(work, seconds=4.5, clicks=0, keys=1))
            assert (done.state, done.labelled_by) == ("labelled", ["ann"])
        batch = ann.export_labels(CELL)
        assert batch is not None
        assert (batch.dataset, batch.pictures, batch.instances) == ("acme/dock-7-labels", 3, 6)
        repo = RepoId("dataset", "acme", "dock-7-labels")
        assert services.registry.repos.get(repo).private
        for entry in services.store.tree(repo, "main").files:
            target = tmp_path / "out" / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(services.store.blobs.read(entry.sha256))
        read = read_dataset(tmp_path / "out")
        assert {sample.name.rpartition(".")[0]: [m.decode() for m in sample.masks] for sample in read.samples} == seen
        truth = next(iter(read.samples)).truth().decode_masks()
        assert any(np.array_equal(one, ring_mask()) for one in truth)
        stats = ann.label_stats(CELL)
        assert (stats.pictures, stats.accepted_as_proposed, stats.seconds, stats.keys) == (3, 3, 13.5, 3)
    with as_job(ready["rob"]) as rob:
        assert refused(lambda: rob.tree("dataset", "acme/dock-7-labels", "main"))[0] == 404


def test_two_people_at_once_never_get_the_same_picture(services: Services, ready: dict[str, str]) -> None:
    for seed in range(3, 24):
        capture(services, CELL, seed=seed)
    who = {name: services.tokens.identify(ready[name]) for name in ("ann", "ben")}
    services.labelling.fill(CELL, s.FillIn(), who["ann"])

    def label_all(name: str) -> list[str]:
        mine = []
        while (work := services.labelling.next(CELL, who[name])) is not None:
            mine.append(work.task.id)
            services.labelling.accept(work.task.id, answer(work), who[name])
        return mine

    with ThreadPoolExecutor(4) as pool:
        both = [*pool.map(label_all, ["ann", "ben"])]
    assert len(both[0]) + len(both[1]) == 24
    assert set(both[0]).isdisjoint(both[1])
    assert services.labelling.queue.counts(CELL) == {"labelled": 24}


def test_a_person_keeps_their_picture_and_others_get_the_next(as_job: Client, ready: dict[str, str]) -> None:
    with as_job(ready["ann"]) as ann, as_job(ready["ben"]) as ben:
        first, again, other = ann.next_label_task(CELL), ann.next_label_task(CELL), ben.next_label_task(CELL)
        assert first is not None and again is not None and other is not None
        assert first.task.id == again.task.id != other.task.id
        assert refused(lambda: ben.accept_labels(first.task.id, answer(first))) == (409, "task-state")
        assert refused(lambda: ben.move_label_task(first.task.id, "skip", first.task.version)) == (409, "task-state")


def test_a_lease_that_is_over_takes_no_answer_and_the_picture_goes_to_the_next(
    services: Services, ready: dict[str, str]
) -> None:
    clock = [1_800_000_000.0]
    services.labelling.queue._now = lambda: clock[0]
    ann, ben = (services.tokens.identify(ready[name]) for name in ("ann", "ben"))
    labelling = services.labelling
    held = labelling.next(CELL, ann)
    assert held is not None
    clock[0] += 599
    labelling.move(held.task.id, s.Move(what="renew", version=held.task.version), ann)
    clock[0] += 599
    theirs = labelling.next(CELL, ben)
    assert theirs is not None and theirs.task.id != held.task.id, "renewed, it is still ann's"
    clock[0] += 2
    with pytest.raises(Exception, match="over"):
        labelling.accept(held.task.id, answer(held), ann)
    # Nobody has it yet: the same person takes it again and sends the same answer.
    again = labelling.move(held.task.id, s.Move(what="take", version=held.task.version), ann)
    clock[0] += 601
    labelling.move(theirs.task.id, s.Move(what="take", version=theirs.task.version), ben)
    labelling.accept(theirs.task.id, answer(labelling.work(theirs.task.id, ben)), ben)
    taken = labelling.next(CELL, ben)
    assert taken is not None and taken.task.id == again.task.id, "expired, it went to ben"
    with pytest.raises(Exception, match="somebody else"):
        labelling.accept(again.task.id, answer(again), ann)


def test_the_same_answer_sent_again_is_taken_once(services: Services, as_job: Client, ready: dict[str, str]) -> None:
    with as_job(ready["ann"]) as ann:
        work = ann.next_label_task(CELL)
        assert work is not None
        sent = answer(work)
        for _ in range(3):  # as after answers that were lost on their way
            assert ann.accept_labels(work.task.id, sent).state == "labelled"
        assert ann.label_stats(CELL).pictures == 1
        other = ann.next_label_task(CELL)
        assert other is not None
        stolen = s.Accept(action=sent.action, version=other.task.version, regions=[])
        assert refused(lambda: ann.accept_labels(other.task.id, stolen)) == (409, "task-state")


def test_a_second_look_is_by_another_person(as_job: Client, ready: dict[str, str]) -> None:
    with as_job(ready["ann"]) as ann, as_job(ready["ben"]) as ben:
        assert ann.set_label_cell(CELL, s.LabelSettings(second_look=True)).second_look
        ids = set()
        while (work := ann.next_label_task(CELL)) is not None:
            drawn = s.RegionIn(label="box", polygons=[[[(60.0, 60.0), (80.0, 60.0), (80.0, 68.0), (60.0, 68.0)]]])
            kept = s.RegionIn(label="box", keep=work.regions[0].id)
            assert ann.accept_labels(work.task.id, answer(work, regions=[kept, drawn])).state == "second_look"
            ids.add(work.task.id)
        assert len(ids) == 3
        waits = ann.label_tasks(CELL, state="second_look")[0]
        assert refused(lambda: ann.move_label_task(waits.id, "take", waits.version)) == (409, "task-state")
        assert ann.export_labels(CELL) is None
        second = ben.next_label_task(CELL)
        assert second is not None and second.task.id in ids
        assert [one.disputed for one in second.regions] == [False, True], "what ann drew is shown as such"
        done = ben.accept_labels(second.task.id, answer(second))
        assert (done.state, done.labelled_by) == ("labelled", ["ann", "ben"])


def test_a_batch_is_taken_back_and_its_pictures_wait_with_the_labels_they_had(
    services: Services, as_job: Client, ready: dict[str, str]
) -> None:
    repo = RepoId("dataset", "acme", "dock-7-labels")
    with as_job(ready["ann"]) as ann:
        labelled = []
        for _ in range(2):
            work = ann.next_label_task(CELL)
            assert work is not None
            ann.accept_labels(work.task.id, answer(work, regions=[s.RegionIn(label="box", keep=work.regions[1].id)]))
            labelled.append(work)
        first = ann.export_labels(CELL)
        work = ann.next_label_task(CELL)
        assert work is not None and first is not None
        ann.accept_labels(work.task.id, answer(work))
        second = ann.export_labels(CELL)
        assert second is not None
        version = ann.label_task(labelled[0].task.id).task.version
        assert refused(lambda: ann.move_label_task(labelled[0].task.id, "reopen", version)) == (409, "task-state")
        assert ann.undo_labels(CELL, first.id).undone_at
        files = {file.path for file in services.store.tree(repo, "main").files}
        assert {path for path in files if path.startswith("images/")} == {
            f"images/{work.task.source.removeprefix('capture ')}.jpg"
        }
        assert refused(lambda: ann.undo_labels(CELL, first.id)) == (409, "task-state")
        again = ann.next_label_task(CELL)
        assert again is not None and again.task.id in {one.task.id for one in labelled}
        assert [one.mask.counts for one in again.regions] == [labelled[0].regions[1].mask.counts]
        ann.accept_labels(again.task.id, answer(again))
        third = ann.export_labels(CELL)
        assert third is not None and third.pictures == 1
        assert [one.undone_at is None for one in ann.label_batches(CELL)] == [True, True, False]
    document = json.loads(
        services.store.blobs.read(services.registry.repos.entry(repo, "main", "annotations.json").sha256)
    )
    assert len(document["images"]) == 2 and len(document["annotations"]) == 3


def test_skipped_removed_and_empty_are_told_apart(as_job: Client, ready: dict[str, str]) -> None:
    with as_job(ready["ann"]) as ann:
        for what in ("skip", "remove"):
            work = ann.next_label_task(CELL)
            assert work is not None
            ann.move_label_task(work.task.id, what, work.task.version)
        work = ann.next_label_task(CELL)
        assert work is not None
        ann.accept_labels(work.task.id, answer(work, keep=False))
        assert ann.label_cell(CELL).counts == {"skipped": 1, "removed": 1, "labelled": 1}
        batch = ann.export_labels(CELL)
        assert batch is not None and (batch.pictures, batch.instances) == (1, 0)
        skipped = ann.label_tasks(CELL, state="skipped")[0]
        assert ann.move_label_task(skipped.id, "reopen", skipped.version).task.state == "open"
        assert ann.next_label_task(CELL) is not None


def test_another_teams_task_does_not_exist(services: Services, as_job: Client, ready: dict[str, str]) -> None:
    with as_job(ready["ann"]) as ann, as_job(ready["rob"]) as rob, as_job(ready["reader"]) as reader:
        work = ann.next_label_task(CELL)
        assert work is not None
        task = work.task
        for call in (
            lambda: rob.label_task(task.id),
            lambda: rob.label_image(task.id),
            lambda: rob.accept_labels(task.id, answer(work)),
            lambda: rob.move_label_task(task.id, "skip", task.version),
            lambda: rob.propose_labels(task.id, s.ProposalIn(proposed_by="x", labels=[], scores=[], masks=[])),
        ):
            assert refused(call) == (404, "unknown-task")
        for call in (
            lambda: rob.label_cell(CELL),
            lambda: rob.next_label_task(CELL),
            lambda: rob.label_tasks(CELL),
            lambda: rob.export_labels(CELL),
            lambda: rob.fill_labels(CELL, s.FillIn()),
            lambda: rob.set_label_cell(CELL, s.LabelSettings(dataset="rival/stolen")),
            lambda: rob.propagate_labels(CELL, task.look_alike),
        ):
            assert refused(call) == (404, "unknown-cell")
        assert rob.label_cells() == []
        assert reader.label_task(task.id).task.id == task.id
        assert refused(lambda: reader.next_label_task(CELL))[0] == 403
        assert refused(lambda: reader.accept_labels(task.id, answer(work)))[0] == 403
        # Nor may labels of production go where others see them.
        services.registry.repos.create(RepoId("dataset", "acme", "open"), private=False)
        for place in ("acme/open", "rival/labels", "no-slash"):
            assert refused(lambda place=place: ann.set_label_cell(CELL, s.LabelSettings(dataset=place)))[0] == 400


def test_what_was_verified_is_proposed_for_pictures_that_look_alike(services: Services, as_job: Client) -> None:
    services.cells.create(CELL, "", "acme")
    with services.registry.catalog.write() as tx:  # the base of the tests knows boxes alone
        tx.execute("UPDATE hub_cells SET classes = ['bag', 'box'] WHERE name = ?", [CELL])
    a, b, shifted = box_mask(5, 5, 40, 40), box_mask(60, 10, 90, 60), box_mask(6, 6, 41, 41)
    for _ in range(2):
        capture(services, CELL, seed=7, masks=[a], labels=["box"], scores=[0.5])
    third = capture(services, CELL, seed=7, masks=[shifted], labels=["box"], scores=[0.97])
    capture(services, CELL, seed=8, masks=[a], labels=["box"], scores=[0.99])
    with as_job(people(services)["ann"]) as ann:
        ann.fill_labels(CELL, s.FillIn())
        tasks = {one.source.removeprefix("capture "): one for one in ann.label_tasks(CELL)}
        group = tasks[third].look_alike
        assert [one.look_alike for one in tasks.values()].count(group) == 3, "the fourth looks different"
        assert refused(lambda: ann.propagate_labels(CELL, group)) == (409, "task-state")
        polygon = [[(60.0, 10.0), (90.0, 10.0), (90.0, 60.0), (60.0, 60.0)]]
        verified = 0
        while verified < 2:
            work = ann.next_label_task(CELL)
            assert work is not None and work.task.look_alike == group and work.task.id != tasks[third].id
            kept = s.RegionIn(label="bag", keep=work.regions[0].id)
            drawn = s.RegionIn(label="box", polygons=[polygon])
            ann.accept_labels(work.task.id, answer(work, regions=[kept, drawn]))
            verified += 1
        said = ann.propagate_labels(CELL, group)
        assert (said.verified, said.proposed, list(said.confidence)) == (2, 1, [tasks[third].id])
        work = ann.label_task(tasks[third].id)
        assert work.task.state == "open" and work.task.proposed_by == "2 verified pictures that look alike"
        own, added = work.regions
        assert (own.label, own.disputed) == ("bag", False), "its own outline, the verified class"
        mine = coco_mask.decode({"size": [HEIGHT, WIDTH], "counts": own.mask.counts}).astype(bool)
        assert np.array_equal(mine, shifted)
        assert own.score is not None and own.score > 0.85
        assert (added.label, added.score, added.low, added.disputed) == ("box", 0.5, True, True)
        theirs = coco_mask.decode({"size": [HEIGHT, WIDTH], "counts": added.mask.counts}).astype(bool)
        assert np.array_equal(theirs, b)
        first = services.labelling.queue.proposal(work.task.id, 0)
        assert (first.proposed_by, [one.label for one in first.regions]) == ("dock-7@v1", ["box"]), "kept beside"


def test_a_model_proposes_for_pictures_that_have_no_labels(
    services: Services, as_job: Client, tmp_path: Path, client: HubClient
) -> None:
    import cv2

    services.cells.create(CELL, "", "acme", ["box"])
    tokens = people(services)
    (tmp_path / "set" / "images").mkdir(parents=True)
    for k in range(3):
        cv2.imwrite(str(tmp_path / "set" / "images" / f"{k}.png"), frame(40 + k))
    named = {"images": [{"id": 1, "file_name": "0.png", "width": WIDTH, "height": HEIGHT}], "annotations": [],
             "categories": []}  # fmt: skip
    (tmp_path / "set" / "annotations.json").write_text(json.dumps(named))
    services.registry.repos.create(RepoId("dataset", "acme", "raw"), private=True)
    services.registry.repos.create(RepoId("dataset", "rival", "raw"), private=True)
    client.push_folder("dataset", "acme/raw", tmp_path / "set", "pictures")
    client.push_folder("dataset", "rival/raw", tmp_path / "set", "pictures")
    with as_job(tokens["ann"]) as ann:
        assert ann.fill_labels(CELL, s.FillIn(dataset="acme/raw")) == 2
        assert ann.fill_labels(CELL, s.FillIn(dataset="acme/raw", empty_too=True)) == 1
        assert ann.fill_labels(CELL, s.FillIn(dataset="acme/raw", empty_too=True)) == 0
        assert refused(lambda: ann.fill_labels(CELL, s.FillIn(dataset="rival/raw")))[0] == 404
        # The operator sees both datasets, and still no picture of one team gets to another's people.
        assert refused(lambda: client.fill_labels(CELL, s.FillIn(dataset="rival/raw")))[0] == 400
        task = ann.label_tasks(CELL)[0]
        counts = encode_masks(box_mask(5, 5, 40, 40)[None])[0].decode()
        good = s.Mask(size=(HEIGHT, WIDTH), counts=counts)
        said = s.ProposalIn(proposed_by="base/universal@v1", labels=["box"], scores=[0.4], masks=[good])
        work = ann.propose_labels(task.id, said)
        assert [(one.label, one.low) for one in work.regions] == [("box", True)]
        bad = s.ProposalIn(proposed_by="x", labels=["box"], scores=[0.4], masks=[s.Mask(size=(4, 4), counts="0d0")])
        assert refused(lambda: ann.propose_labels(task.id, bad)) == (422, "bad-labels")
        held = ann.next_label_task(CELL)
        assert held is not None
        assert refused(lambda: ann.propose_labels(held.task.id, said)) == (409, "task-state")
        # Labels of pictures that a dataset has already go to these pictures.
        ann.set_label_cell(CELL, s.LabelSettings(dataset="acme/raw"))
        ann.accept_labels(held.task.id, answer(held))
        batch = ann.export_labels(CELL)
        assert batch is not None and batch.dataset == "acme/raw"
        files = {file.path for file in ann.tree("dataset", "acme/raw", "main").files}
        assert {path for path in files if path.startswith("images/")} == {f"images/{k}.png" for k in range(3)}
        ann.undo_labels(CELL, batch.id)
        assert len([f for f in ann.tree("dataset", "acme/raw", "main").files if f.path.startswith("images/")]) == 3
        services.datasets.delete(RepoId("dataset", "acme", "raw"), services.tokens.identify(tokens["ann"]))
        assert ann.label_tasks(CELL) == [], "pictures of a dataset that has gone wait no longer"


def test_frames_that_are_not_kept_are_not_labelled_and_a_cell_takes_its_queue_along(
    services: Services, as_job: Client, client: HubClient, ready: dict[str, str]
) -> None:
    with as_job(ready["ann"]) as ann:
        ann.fill_labels(CELL, s.FillIn())
        tasks = ann.label_tasks(CELL)
        client._send("DELETE", f"/captures/{tasks[0].source.removeprefix('capture ')}")
        assert [one.id for one in ann.label_tasks(CELL)] == [one.id for one in tasks[1:]]
        services.cells.delete(CELL)
        with pytest.raises(UnknownTaskError):
            services.labelling.queue.row(tasks[1].id)
        services.cells.create(CELL, "", "rival")
        with as_job(ready["rob"]) as rob:
            assert rob.label_tasks(CELL) == [] and rob.label_batches(CELL) == []


def test_the_order_follows_the_rule(services: Services, as_job: Client) -> None:
    services.cells.create(CELL, "", "acme", ["box"])
    names = [
        capture(services, CELL, seed=k, masks=[box_mask(5, 5, 40, 40)], scores=[score])
        for k, score in enumerate((0.99, 0.55, 0.8))
    ]
    with as_job(people(services)["ann"]) as ann:
        ann.fill_labels(CELL, s.FillIn())
        order = [names.index(one.source.removeprefix("capture ")) for one in ann.label_tasks(CELL)]
        assert order == [1, 2, 0]
        ann.fill_labels(CELL, s.FillIn(gains={names[0]: 0.02}))
        order = [names.index(one.source.removeprefix("capture ")) for one in ann.label_tasks(CELL)]
        assert order == [0, 1, 2], "a gain that is known goes first"
        ann.set_label_cell(CELL, s.LabelSettings(rule="doubt"))
        order = [names.index(one.source.removeprefix("capture ")) for one in ann.label_tasks(CELL)]
        assert order == [1, 2, 0]


def test_the_tables_open_in_a_catalog_that_had_none(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "c.duckdb", [REGISTRY]):
        pass
    with Catalog.open(tmp_path / "c.duckdb", [REGISTRY, LABELLING]) as catalog:
        assert Queue(catalog).counts("x") == {}
    with Catalog.open(tmp_path / "c.duckdb", [REGISTRY, LABELLING]) as catalog:
        assert Queue(catalog).next("x", "ann") is None


def test_a_second_look_is_by_another_human_and_not_by_another_token(
    services: Services, as_job: Client, ready: dict[str, str], client: HubClient
) -> None:
    issue = services.tokens.issue
    phone = issue("ann-desk", [Scope.CONTRIBUTE], user="ann")
    programs = [issue(name, [Scope.CONTRIBUTE, "team:acme"]) for name in ("one", "two")]
    ops = [issue(name, [Scope.CONTRIBUTE]) for name in ("ops-a", "ops-b")]
    with as_job(ready["ann"]) as ann:
        ann.set_label_cell(CELL, s.LabelSettings(second_look=True))
    for first, same in ((ready["ann"], phone), (programs[0], programs[1]), (ops[0], ops[1])):
        with as_job(first) as one, as_job(same) as again, as_job(ready["ben"]) as ben:
            work = one.next_label_task(CELL)
            assert work is not None
            assert one.accept_labels(work.task.id, answer(work)).state == "second_look"
            other = again.next_label_task(CELL)
            if other is not None:
                assert other.task.id != work.task.id
                again.move_label_task(other.task.id, "release", other.task.version)
            now = ben.label_task(work.task.id)
            assert refused(partial(again.move_label_task, work.task.id, "take", now.task.version))[0] == 409
            taken = ben.move_label_task(work.task.id, "take", now.task.version)
            assert ben.accept_labels(work.task.id, answer(taken)).state == "labelled"
