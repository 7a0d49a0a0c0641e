"""The shipped base is published once per weights; the serving folder is completed after any interruption."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.error_table import problem_of
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


def make_variant(hub: Services, tmp_path: Path, *, base: str = "", cell: str = "dock-7") -> str:
    """A finished job's variant of a cell."""
    known = {one.name for one in hub.cells.all()}
    if cell not in known:
        hub.cells.create(cell, "")
    if not known:
        frames = hub.store.ensure(RepoId("dataset", "acme", "dock"))
        card = hub.store.blobs.put_bytes(b"# Frames")
        entry = FileEntry("README.md", card.sha256, card.size)
        hub.store.repos.commit(RepoId("dataset", frames.namespace, frames.name), [entry], message="m", author="a")
    job = hub.finetunes.request(FinetuneIn(cell=cell, dataset="acme/dock", base=base), "tester")
    claim = hub.jobs.claim("w")
    assert claim is not None
    return finish(hub, job, tmp_path)


def finish(hub: Services, job: Job, tmp_path: Path) -> str:
    folder, deck = write_variant(tmp_path / job.id, job.spec.base_commit, job.id, base=job.spec.base)
    repo = repo_of(job.spec.cell)
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
def test_variants_on_several_bases_are_served_beside_each_other(hub: Services, tmp_path: Path) -> None:
    old = make_variant(hub, tmp_path)
    promote(hub, old)
    write_base_files(hub.settings.base_source, mark=b" better")
    hub = again(hub)
    table = hub.serving_folder.read()
    assert (table["base"], table.get("bases")) == ("universal@v1", None), "promoted variants need their own base"
    new = make_variant(hub, tmp_path, base="base/universal@v2")
    hub.promotions.promote("dock-7", new, "beta", actor="tester", note="")
    table = hub.serving_folder.read()
    assert (table["base"], table["bases"]) == ("universal@v2", {f"dock-7@{old}": "universal@v1"})
    for base in ("universal@v1", "universal@v2"):
        assert f"base/{base}/model.safetensors" in table["digests"]
        assert (hub.settings.serving_folder / "base" / base / "model.safetensors").is_file()
    hub.promotions.rollback("dock-7", "beta", actor="tester", note="")
    assert hub.serving_folder.read()["base"] == "universal@v1"
    promote(hub, new)  # it takes the place of the only one on v1
    table = hub.serving_folder.read()
    assert (table["base"], table.get("bases")) == ("universal@v2", None)
    hub.promotions.rollback("dock-7", "fleet", actor="tester", note="")
    assert hub.serving_folder.read()["base"] == "universal@v1"
    hub.promotions.rollback("dock-7", "fleet", actor="tester", note="")
    with pytest.raises(NothingToRollBackError):
        hub.promotions.rollback("dock-7", "fleet", actor="tester", note="")
    assert hub.serving_folder.read()["base"] == "universal@v2", "the base alone is the newest one"
    hub.close()


@pytest.mark.slow
def test_a_base_more_than_a_server_holds_waits_until_another_one_is_free(hub: Services, tmp_path: Path) -> None:
    for number in range(1, 5):
        if number > 1:
            write_base_files(hub.settings.base_source, mark=str(number).encode())
            hub = again(hub)
        made = make_variant(hub, tmp_path, base=f"base/universal@v{number}")
        if number < 4:
            hub.promotions.promote("dock-7", made, ("station", "beta", "fleet")[number - 1], actor="t", note="")  # type: ignore[arg-type]
    hub.cells.create("dock-8", "")
    assert len(hub.serving_folder.pinned_bases()) == 3
    promote(hub, made)  # in the place of the one on v3
    assert [name[-2:] for name in hub.serving_folder.pinned_bases()] == ["v4", "v2", "v1"]
    write_base_files(hub.settings.base_source, mark=b"5")
    hub = again(hub)
    hub.promotions.rollback("dock-7", "station", actor="t", note="")
    assert len(hub.serving_folder.pinned_bases()) == 2
    hub.close()


def test_a_fourth_base_beside_three_is_refused_in_words(hub: Services, tmp_path: Path) -> None:
    for number in range(1, 5):
        if number > 1:
            write_base_files(hub.settings.base_source, mark=str(number).encode())
            hub.bases.publish(hub.settings.base_source)
            hub.vouching.shipped_base(hub.bases.shipped(hub.settings.base_source))
        cell = "dock-7" if number < 4 else "dock-8"
        made = make_variant(hub, tmp_path, base=f"base/universal@v{number}", cell=cell)
        if number < 4:
            hub.promotions.promote(cell, made, ("station", "beta", "fleet")[number - 1], actor="t", note="")  # type: ignore[arg-type]
    before, decisions = hub.serving_folder.read(), hub.registry.stages.history("dock-8")
    with pytest.raises(BaseMismatchError) as refused:
        hub.promotions.promote("dock-8", made, "station", actor="t", note="")
    said = str(refused.value)
    assert f"dock-8@{made} is on base/universal@v4" in said and "a server holds 3 bases" in said
    assert all(f"base/universal@v{number}" in said for number in (1, 2, 3)), "which ones are in the way"
    assert "roll other variants back" in said and "fine-tune again" in said, "and what to do"
    assert hub.serving_folder.read() == before, "nothing that robots are served by has changed"
    assert hub.registry.stages.history("dock-8") == decisions and problem_of(refused.value).status == 409
    hub.promotions.rollback("dock-7", "station", actor="t", note="")  # one of the three is free
    hub.promotions.promote("dock-8", made, "station", actor="t", note="")
    assert set(hub.serving_folder.read()["bases"].values()) == {"universal@v2", "universal@v3"}
    assert hub.serving_folder.read()["base"] == "universal@v4"


def test_lineage_leads_from_a_variant_to_its_dataset(hub: Services, tmp_path: Path) -> None:
    version = make_variant(hub, tmp_path)
    one = hub.variants.get("dock-7", version)
    from registry.types import Artifact

    ancestors = hub.registry.lineage.ancestors(Artifact("variant", f"cells/dock-7@{version}", one.commit))
    assert {relative.artifact.kind for relative in ancestors} == {"base", "deck", "dataset"}
    record = hub.registry.stages.history("dock-7")[0]
    assert json.loads(record.document())["evidence"]["deck"] == one.deck
