"""The shipped base is published once per weights; the serving folder is completed after any interruption."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.errors import BaseMismatchError, UnknownBaseError
from hub.models.variants import repo_of
from hub.schemas.core import FinetuneIn, FinishIn, Job
from hub.services import Services
from hub.settings import Settings
from registry.errors import NothingToRollBackError
from registry.types import FileEntry, RepoId
from serving.folder.routing import ROUTING
from tests.hub.material import write_base_files, write_variant


@pytest.fixture
def hub(settings: Settings) -> Iterator[Services]:
    services = Services.open(settings)
    yield services
    services.close()


def again(hub: Services) -> Services:
    """The hub after a restart."""
    hub.close()
    return Services.open(hub.settings)


def make_variant(hub: Services, tmp_path: Path, *, base: str = "") -> str:
    """A finished job's variant of the cell dock-7."""
    if not hub.cells.all():
        hub.cells.create("dock-7", "")
        frames = hub.store.ensure(RepoId("dataset", "acme", "dock"))
        card = hub.store.blobs.put_bytes(b"# Frames")
        entry = FileEntry("README.md", card.sha256, card.size)
        hub.store.repos.commit(RepoId("dataset", frames.namespace, frames.name), [entry], message="m", author="a")
    job = hub.finetunes.request(FinetuneIn(cell="dock-7", dataset="acme/dock", base=base), "tester")
    claim = hub.jobs.claim("w")
    assert claim is not None
    return finish(hub, job, tmp_path)


def finish(hub: Services, job: Job, tmp_path: Path) -> str:
    folder, deck = write_variant(tmp_path / job.id, job.spec.base_commit, job.id, base=job.spec.base)
    repo = repo_of("dock-7")
    hub.store.ensure(repo)
    entries = []
    for path in folder.iterdir():
        info = hub.store.blobs.put_bytes(path.read_bytes())
        entries.append(FileEntry(path.name, info.sha256, info.size))
    commit = hub.store.repos.commit(repo, entries, message="m", author="a")
    answer = FinishIn(commit=commit.id, deck=hub.store.blobs.put_bytes(deck).sha256, metrics={"variant_ap": 0.5})
    version = hub.finetunes.accept(job.id, answer).version
    assert version is not None
    return version.partition("@")[2]


def promote(hub: Services, version: str) -> None:
    hub.promotions.promote("dock-7", version, "fleet", actor="tester", note="")


def fleet(hub: Services) -> str | None:
    name: str | None = hub.serving_folder.read()["cells"]["dock-7"].get("fleet")
    return name


@pytest.mark.slow
def test_the_shipped_base_is_published_once_and_again_when_its_weights_change(
    hub: Services, settings: Settings
) -> None:
    assert [base.name for base in hub.bases.all()] == ["base/universal@v1"]
    hub = again(hub)
    assert [base.name for base in hub.bases.all()] == ["base/universal@v1"]
    write_base_files(settings.base_source, mark=b" better")
    hub = again(hub)
    assert [base.name for base in hub.bases.all()] == ["base/universal@v1", "base/universal@v2"]
    assert hub.bases.newest_name() == "base/universal@v2"
    write_base_files(settings.base_source)  # back to weights that are out as v1
    hub = again(hub)
    assert hub.bases.newest_name() == "base/universal@v2"
    with pytest.raises(UnknownBaseError, match="base/universal@v9"):
        hub.bases.get("base/universal@v9")
    with pytest.raises(UnknownBaseError):
        hub.bases.get("base/other@v1")
    hub.close()


def test_a_hub_without_a_base_starts_and_says_so(settings: Settings) -> None:
    shutil.rmtree(settings.base_source)
    hub = Services.open(settings)
    assert hub.bases.newest_name() is None
    with pytest.raises(UnknownBaseError, match="PARCELHUB_BASE_SOURCE"):
        hub.bases.newest()
    hub.close()


@pytest.mark.slow
def test_a_promotion_that_was_cut_off_is_completed_at_the_next_start(
    hub: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_variant(hub, tmp_path), make_variant(hub, tmp_path)
    promote(hub, first)
    before = (hub.settings.serving_folder / ROUTING).read_bytes()

    def power_cut(*_: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as cut:
        cut.setattr("hub.rollout.serving_folder.write_routing", power_cut)
        with pytest.raises(OSError, match="power cut"):
            promote(hub, second)
    assert (hub.settings.serving_folder / ROUTING).read_bytes() == before, "robots keep the old state"
    hub = again(hub)
    assert fleet(hub) == f"dock-7@{second}"
    hub.close()


def test_files_that_cannot_be_written_leave_no_decision(
    hub: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = make_variant(hub, tmp_path)

    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(type(hub.store.blobs), "export_to", full_disk)
    with pytest.raises(OSError, match="no space"):
        promote(hub, version)
    assert hub.variants.get("dock-7", version).stage == "candidate"
    assert not (hub.settings.serving_folder / "variants" / f"dock-7@{version}").exists()


def test_damaged_files_are_healed_at_the_next_start(hub: Services, tmp_path: Path) -> None:
    version = make_variant(hub, tmp_path)
    promote(hub, version)
    adapter = hub.settings.serving_folder / "variants" / f"dock-7@{version}" / "adapter_model.safetensors"
    good = adapter.read_bytes()
    adapter.unlink()
    adapter.write_bytes(b"x" * len(good))
    table = hub.serving_folder.read()["version"]
    hub = again(hub)
    assert adapter.read_bytes() == good
    assert hub.serving_folder.read()["version"] == table, "nothing changed for the robots"
    hub.close()


@pytest.mark.slow
def test_variants_on_another_base_wait_until_the_served_ones_are_gone(hub: Services, tmp_path: Path) -> None:
    old = make_variant(hub, tmp_path)
    promote(hub, old)
    write_base_files(hub.settings.base_source, mark=b" better")
    hub = again(hub)
    assert hub.serving_folder.read()["base"] == "universal@v1", "promoted variants need their own base"
    new = make_variant(hub, tmp_path, base="base/universal@v2")
    hub.cells.create("dock-8", "")
    with pytest.raises(BaseMismatchError, match="base/universal@v2"):
        hub.promotions.promote("dock-7", new, "beta", actor="tester", note="")
    promote(hub, new)  # it takes the place of the only one on v1
    assert hub.serving_folder.read()["base"] == "universal@v2"
    hub.promotions.rollback("dock-7", "fleet", actor="tester", note="")
    assert hub.serving_folder.read()["base"] == "universal@v1"
    hub.promotions.rollback("dock-7", "fleet", actor="tester", note="")
    with pytest.raises(NothingToRollBackError):
        hub.promotions.rollback("dock-7", "fleet", actor="tester", note="")
    assert hub.serving_folder.read()["base"] == "universal@v2", "the base alone is the newest one"
    hub.close()


def test_lineage_leads_from_a_variant_to_its_dataset(hub: Services, tmp_path: Path) -> None:
    version = make_variant(hub, tmp_path)
    one = hub.variants.get("dock-7", version)
    from registry.types import Artifact

    ancestors = hub.registry.lineage.ancestors(Artifact("variant", f"cells/dock-7@{version}", one.commit))
    assert {relative.artifact.kind for relative in ancestors} == {"base", "deck", "dataset"}
    record = hub.registry.stages.history("dock-7")[0]
    assert json.loads(record.document())["evidence"]["deck"] == one.deck
