"""What the token of a job's process opens: what the job needs, and nothing else. And what it gets of earlier data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from hub.accounts.tokens import Identity, Scope
from hub.client.client import HubClient
from hub.errors import HubAnswerError
from hub.kinds import finetune as job_run
from hub.schemas.core import Claim, FinetuneIn
from hub.schemas.resources import QuotaIn
from hub.services import Services
from registry.types import RepoId
from tests.hub.material import write_variant

AsJob = Callable[[str], HubClient]


def push(client: HubClient, name: str, tmp_path: Path, **files: str) -> str:
    folder = tmp_path / name.replace("/", "-") / str(len(files))
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / f"{file}.json").write_text(text)
    return client.push_folder("dataset", name, folder, "frames").id


def claimed(client: HubClient, cell: str, dataset: str) -> Claim:
    if cell not in [one.name for one in client.cells()]:
        client.create_cell(cell)
    job = client.finetune(FinetuneIn(cell=cell, dataset=dataset))
    claim = client.claim("w")
    assert claim is not None and claim.job.id == job.id
    return claim


def publish(worker: HubClient, claim: Claim, folder: Path, mark: str) -> bytes:
    spec = claim.job.spec
    made, deck = write_variant(folder, spec.base_commit, mark)
    puts = [{"op": "put", "path": path.name, "sha256": worker.put_blob(path)} for path in sorted(made.iterdir())]
    worker.ensure_repo("model", f"cells/{spec.cell}")
    commit = worker.commit("model", f"cells/{spec.cell}", "variant", puts)
    worker.finish(claim.job.id, commit=commit.id, deck=worker.put_blob(deck), metrics={})
    return deck


def slug_of(call: Callable[..., object], *given: object) -> str:
    with pytest.raises(HubAnswerError) as error:
        call(*given)
    return error.value.slug


def test_a_job_reads_what_it_needs_and_nothing_else(client: HubClient, as_job: AsJob, tmp_path: Path) -> None:
    push(client, "acme/dock", tmp_path, a="{}")
    push(client, "acme/other", tmp_path, b='{"public": true}')
    push(client, "rival/dock", tmp_path, c='{"rival": true}')
    claim = claimed(client, "dock-7", "acme/dock")
    spec = claim.job.spec
    with as_job(claim.token) as worker:
        assert worker.job(claim.job.id).id == claim.job.id
        assert [f.path for f in worker.tree("dataset", "acme/dock", spec.dataset_commit).files] == ["a.json"]
        assert worker.tree("model", "base/universal", spec.base_commit).files
        worker.ensure_repo("model", "cells/dock-7")
        assert worker.refs("model", "cells/dock-7") == []
        for name in ("acme/other", "rival/dock"):
            assert slug_of(worker.refs, "dataset", name) == "unknown-repo"
            assert slug_of(worker.download, "dataset", name, "main", "c.json", tmp_path / "stolen") == "unknown-repo"
        theirs = hashlib.sha256(b'{"rival": true}').hexdigest()
        assert not worker.has_blob(theirs), "knowing a digest is not possession, for a job neither"
        assert slug_of(worker.blob, theirs) == "unknown-blob"
        for call in (worker.jobs, worker.cells, worker.models, worker.datasets, worker.routing, worker.tokens):
            assert slug_of(call) == "forbidden"
        assert slug_of(worker.ensure_repo, "model", "cells/dock-8") == "forbidden"
        assert slug_of(worker.ensure_repo, "dataset", "acme/dock") == "forbidden"


def test_the_hub_protocol_gives_a_job_no_more(raw: TestClient[Any], client: HubClient, tmp_path: Path) -> None:
    push(client, "acme/dock", tmp_path, a="{}")
    push(client, "acme/other", tmp_path, b="{}")
    headers = {"Authorization": f"Bearer {claimed(client, 'dock-7', 'acme/dock').token}"}
    assert raw.get("/api/datasets/acme/dock", headers=headers).status_code == 200
    assert raw.get("/datasets/acme/dock/resolve/main/a.json", headers=headers).status_code == 200
    assert raw.get("/api/datasets/acme/other", headers=headers).status_code in (401, 404)
    assert raw.get("/datasets/acme/other/resolve/main/b.json", headers=headers).status_code in (401, 404)
    assert raw.get("/api/datasets", headers=headers).status_code in (401, 403)


def test_a_job_known_by_name_alone_is_still_a_job() -> None:
    """Links of the Hub protocol carry a name and no scopes: there, too, a job must not be an operator's token."""
    job, operator = Identity.known_as("job:abc", None), Identity.known_as("backup", None)
    assert (job.job, job.sees("acme"), operator.job, operator.sees("acme")) == ("abc", False, None, True)
    assert Identity.known_as("job:abc", "ann").job is None, "a user's token may be called as it likes"


def test_the_cells_earlier_data_comes_along(
    client: HubClient, as_job: AsJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second fine-tune gets the first one's deck, dataset and adapter; what both datasets hold travels once."""
    first_commit = push(client, "acme/dock", tmp_path, a="{}", shared='{"s": 1}')
    first = claimed(client, "dock-7", "acme/dock")
    assert first.job.spec.earlier is None
    with as_job(first.token) as worker:
        deck = publish(worker, first, tmp_path / "v1", "one")
    push(client, "acme/more", tmp_path, b='{"b": 2}', shared='{"s": 1}')
    claim = claimed(client, "dock-7", "acme/more")
    earlier = claim.job.spec.earlier
    assert earlier is not None
    assert (earlier.version, earlier.dataset, earlier.dataset_commit) == ("dock-7@v1", "acme/dock", first_commit)
    work = tmp_path / "work"
    asked: list[str] = []
    with as_job(claim.token) as worker:
        tree = worker.download_tree("dataset", "acme/more", claim.job.spec.dataset_commit, work / "dataset")
        here = {file.sha256: work / "dataset" / file.path for file in tree.files}
        download = worker.download
        monkeypatch.setattr(worker, "download", lambda *given: (asked.append(given[3]), download(*given))[1])
        found = job_run._earlier(worker, claim.job.spec, work, here, lambda _done, _total: None)
        monkeypatch.setattr(job_run, "MAX_EARLIER_BYTES", -1)
        assert job_run._earlier(worker, claim.job.spec, work, here, lambda _done, _total: None) is None, "too much"
    assert found is not None and found.deck_json == deck and found.name == "dock-7@v1"
    assert {path.name: json.loads(path.read_text()) for path in found.dataset_dir.iterdir()} == {
        "a.json": {},
        "shared.json": {"s": 1},
    }
    assert found.variant_dir is not None
    assert sorted(path.name for path in found.variant_dir.iterdir()) == sorted(job_run.ADAPTER_FILES)
    assert "a.json" in asked and "shared.json" not in asked


def test_earlier_data_that_the_asker_does_not_see_is_no_part_of_the_job(
    client: HubClient, as_job: AsJob, services: Services, tmp_path: Path
) -> None:
    push(client, "rival/secret", tmp_path, a="{}")
    operator = services.tokens.identify(services.settings.client_token())
    services.datasets.change(RepoId.parse("rival/secret", "dataset"), operator, private=True)
    first = claimed(client, "everyones", "rival/secret")
    with as_job(first.token) as worker:
        publish(worker, first, tmp_path / "v1", "one")
    push(client, "acme/dock", tmp_path, b="{}")
    services.users.put("ann", teams=["acme"])
    scopes = {Scope.CONTRIBUTE, Scope.FINETUNE}
    with as_job(services.tokens.issue("ann", scopes, user="ann")) as ann:
        job = ann.finetune(FinetuneIn(cell="everyones", dataset="acme/dock"))
    assert job.spec.earlier is None


def test_what_waits_for_a_commit_counts(client: HubClient, as_job: AsJob, services: Services, tmp_path: Path) -> None:
    """Blobs are nobody's until a commit names them: without a limit they would be a way around every quota."""
    services.users.put("ann", teams=["acme"])
    services.quotas.set("acme", QuotaIn(bytes=1000))
    services.quotas.set("ann", QuotaIn(bytes=0))
    with as_job(services.tokens.issue("ann", {Scope.CONTRIBUTE}, user="ann")) as ann:
        ann.ensure_repo("dataset", "acme/dock")
        small = ann.put_blob(b"a" * 600)
        assert slug_of(ann.put_blob, b"b" * 600) == "quota"
        ann.commit("dataset", "acme/dock", "m", [{"op": "put", "path": "a.json", "sha256": small}])
        assert slug_of(ann.put_blob, b"b" * 600) == "quota", "now the repository has them"
        more = ann.put_blob(b"b" * 400)
        services.quotas.set("acme", QuotaIn(bytes=700))
        put = {"op": "put", "path": "b.json", "sha256": more}
        assert slug_of(ann.commit, "dataset", "acme/dock", "m", [put]) == "quota"
        again = {"op": "put", "path": "again.json", "sha256": small}
        assert ann.commit("dataset", "acme/dock", "m", [again]).id, "what the team has is free"


def test_a_stream_that_does_not_say_how_long_it_is_ends_at_the_quota(raw: TestClient[Any], services: Services) -> None:
    services.users.put("ann", teams=["acme"])
    services.quotas.set("acme", QuotaIn(bytes=1000))
    services.quotas.set("ann", QuotaIn(bytes=0))
    headers = {"Authorization": f"Bearer {services.tokens.issue('ann', {Scope.CONTRIBUTE}, user='ann')}"}
    data = b"x" * 4000
    route = f"/api/v1/blobs/{hashlib.sha256(data).hexdigest()}"
    answer = raw.put(route, headers=headers, content=(data[k : k + 500] for k in range(0, 4000, 500)))
    assert answer.status_code in (413, 429), answer.text


def test_variants_count_for_their_cells_team(
    client: HubClient, as_job: AsJob, services: Services, tmp_path: Path
) -> None:
    push(client, "acme/dock", tmp_path, a="{}")
    services.cells.create("dock-9", "", "acme")
    before = services.quotas.get("acme").bytes_used
    claim = claimed(client, "dock-9", "acme/dock")
    with as_job(claim.token) as worker:
        publish(worker, claim, tmp_path / "v1", "one")
    assert services.quotas.get("acme").bytes_used > before
    services.quotas.set("acme", QuotaIn(bytes=1))
    assert slug_of(client.finetune, FinetuneIn(cell="dock-9", dataset="acme/dock", seed=4)) == "quota"
