"""Pictures at other tools: held there as a person holds one, and taken back once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.loop.labelling.handoff import CLAIM_SECONDS, HandOffs
from hub.loop.labelling.queue import Queue
from hub.loop.labelling.rank import Candidate, by_diversity, by_novelty
from hub.loop.labelling.rows import TOOL_SECONDS
from hub.migrations.tables_handoff import HANDOFF
from hub.migrations.tables_labelling import LABELLING
from hub.schemas import handoff as h
from hub.schemas import labels as s
from hub.services import Services
from registry.catalog.catalog import Catalog
from registry.catalog.migrations import REGISTRY
from tests.hub.loop.labels import CELL, Client, answer, refused

PLACE = "https://labels.acme.org/projects/3#1"


def _asked(**more: object) -> h.HandOffIn:
    return h.HandOffIn(**{"tool": "label-studio", "place": PLACE, "claimer": "here", **more})  # type: ignore[arg-type]


def test_a_picture_is_at_one_place_and_an_answer_is_taken_once(
    services: Services, as_job: Client, ready: dict[str, str]
) -> None:
    with as_job(ready["ann"]) as ann, as_job(ready["ben"]) as ben, as_job(ready["rob"]) as rob:
        ann.fill_labels(CELL, s.FillIn())
        sent = ann.hand_off(CELL, _asked(limit=2))
        assert [one.task for one in ann.hand_off(CELL, _asked(limit=0))] == [one.task for one in sent]
        assert ann.hand_off(CELL, _asked(limit=0, claimer="elsewhere")) == [], "one program sends a picture"
        assert len(ben.hand_off(CELL, _asked(place="https://cvat.acme.org/projects/1#2", tool="cvat"))) == 1
        assert ben.next_label_task(CELL) is None
        first, second = (one.task for one in sent)
        ann.say_sent(first, PLACE, "11")
        assert refused(lambda: ann.say_sent(first, "https://other", "11"))[0] == 409
        assert refused(lambda: ann.say_sent(first, PLACE, "12"))[0] == 409
        assert ann.label_cell(CELL).elsewhere == 3
        work = ann.label_task(first)
        regions = [s.RegionIn(label=one.label, keep=one.id) for one in work.regions]
        said = h.Returned(place=PLACE, what="labelled", mark="a1", person="eve@acme.org", regions=regions)
        assert [ann.take_back(first, said).state for _ in range(2)] == ["labelled"] * 2
        assert ann.label_task(first).task.labelled_by == ["label-studio:eve@acme.org"]
        assert ann.label_stats(CELL).pictures == 1
        # Nobody but the team's people sees it, or says a word of it.
        assert refused(lambda: rob.take_back(first, said))[0] == 404
        assert refused(lambda: rob.handoffs(CELL))[0] == 404
        with as_job(ready["reader"]) as reader:
            assert refused(lambda: reader.give_back(first, PLACE))[0] == 403
        # A class that the cell has not is refused, and the picture stays where it is.
        wrong = h.Returned(place=PLACE, what="labelled", mark="b1", regions=[s.RegionIn(label="cat", keep="0")])
        assert refused(lambda: ann.take_back(second, wrong))[0] == 422
        assert ann.give_back(second, PLACE).task == second
        taken = ben.next_label_task(CELL)
        assert taken is not None and taken.task.id == second
        assert refused(lambda: ann.take_back(second, said))[0] == 404


def test_an_answer_that_was_taken_and_not_noted_is_no_conflict(
    services: Services, as_job: Client, ready: dict[str, str]
) -> None:
    """The hub was killed between the two: the labels are there, the hand-off still says `out`."""
    with as_job(ready["ann"]) as ann:
        assert ann.hand_off(CELL, _asked(limit=1)) == [], "nothing waits before a fill"
        ann.fill_labels(CELL, s.FillIn())
        one, two, _ = ann.hand_off(CELL, _asked(limit=3))
        for task, what in ((one.task, "labelled"), (two.task, "skipped")):
            ann.say_sent(task, PLACE, task)
            said = h.Returned(place=PLACE, what=what, mark="m")  # type: ignore[arg-type]
            assert ann.take_back(task, said).state == what
            with services.registry.catalog.write() as tx:
                tx.execute("UPDATE label_handoffs SET state = 'out', mark = '' WHERE task = ?", [task])
            assert ann.take_back(task, said).state == what
        # Opened again here, it is with its place again, and the answer that was seen is none.
        version = ann.label_task(one.task).task.version
        ann.move_label_task(one.task, "reopen", version)
        assert ann.hand_off(CELL, _asked(limit=0, claimer="later")) == []
        assert ann.label_task(one.task).task.state == "taken"
        assert ann.take_back(one.task, h.Returned(place=PLACE, what="labelled", mark="m")).state == "out"
        assert ann.take_back(one.task, h.Returned(place=PLACE, what="labelled", mark="n")).state == "labelled"


def test_what_was_labelled_here_meanwhile_is_a_conflict_and_stays(
    services: Services, as_job: Client, ready: dict[str, str]
) -> None:
    with as_job(ready["ann"]) as ann:
        ann.fill_labels(CELL, s.FillIn())
        (one,) = ann.hand_off(CELL, _asked(limit=1))
        ann.say_sent(one.task, PLACE, "1")
        services.registry.catalog.run(
            lambda tx: tx.execute("UPDATE label_tasks SET lease_until = 1 WHERE id = ?", [one.task])
        )
        work = ann.next_label_task(CELL)
        while work is not None and work.task.id != one.task:
            ann.accept_labels(work.task.id, answer(work))
            work = ann.next_label_task(CELL)
        assert work is not None, "a hold that is over gives the picture back"
        ann.accept_labels(one.task, answer(work))
        after = ann.take_back(one.task, h.Returned(place=PLACE, what="labelled", mark="x"))
        assert (after.state, after.note) == ("conflict", "here it is labelled")
        assert len(ann.label_task(one.task).regions) == 2


def test_holds_and_claims_end_by_themselves(tmp_path: Path) -> None:
    clock = [1_000.0]
    with Catalog.open(tmp_path / "c.duckdb", [REGISTRY, LABELLING, HANDOFF]) as catalog:
        catalog.run(
            lambda tx: tx.execute(
                "INSERT INTO label_tasks VALUES ('t', 'c', 'capture 1', 'p', '.png', 9, 9, '0', '', NULL, 0, 1,"
                " 'open', 0, NULL, NULL, 0, NULL, 0, NULL)"
            )
        )
        hands, queue = HandOffs(catalog, now=lambda: clock[0]), Queue(catalog, now=lambda: clock[0])
        assert len(hands.take("c", _asked(), "ann")) == 1
        clock[0] += CLAIM_SECONDS + 1
        assert len(hands.take("c", _asked(claimer="elsewhere"), "ann")) == 1
        hands.sent("t", PLACE, "1")
        clock[0] += TOOL_SECONDS - 1
        assert queue.next("c", "ben") is None
        hands.note("t", h.Returned(place=PLACE, what="unfinished"))
        clock[0] += TOOL_SECONDS - 1
        assert queue.next("c", "ben") is None, "each sign of life renews the hold"
        clock[0] += 2
        row = queue.next("c", "ben")
        assert row is not None and row.id == "t"


def test_rules_by_novelty_and_diversity() -> None:
    far, near, same = "ffffffffffffffff", "0000000000000003", "0000000000000000"
    pictures = [
        Candidate("a", 0.9, "g", look=same, novelty=2.0), Candidate("b", 0.8, "g", look=near, novelty=3.0),
        Candidate("c", 0.1, "", look=far), Candidate("d", 0.7, "", look=same, novelty=float("nan")),
    ]  # fmt: skip
    novel = by_novelty(pictures)
    assert sorted(range(4), key=lambda k: -novel[k]) == [1, 0, 3, 2]
    diverse = by_diversity(pictures)
    assert sorted(range(4), key=lambda k: -diverse[k]) == [0, 2, 1, 3]
    assert by_diversity([]) == by_novelty([]) == []
    assert len(set(by_diversity([Candidate(str(k), 0.5, "") for k in range(20)]))) == 20


@pytest.mark.parametrize("rule", ["novelty", "diversity"])
def test_a_queue_takes_the_rule(as_job: Client, ready: dict[str, str], rule: s.Rule) -> None:
    with as_job(ready["ann"]) as ann:
        ann.fill_labels(CELL, s.FillIn())
        assert ann.set_label_cell(CELL, s.LabelSettings(rule=rule)).rule == rule
        ranks = [one.rank for one in ann.label_tasks(CELL)]
        assert ranks == sorted(ranks, reverse=True) and len(ranks) == 3
