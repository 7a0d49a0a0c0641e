"""Nothing is served that nobody vouches for; the gate keeps its policy; lineage and verification tell the truth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hub.accounts.tokens import Identity, Scope
from hub.errors import HubAnswerError, UnknownBaseError
from hub.models.variants import repo_of
from hub.services import Services
from hub.settings import Settings
from registry.errors import MoveRefusedError, NotFoundError, StatementError
from registry.promotion.policy import Policy
from registry.types import FileEntry, RepoId
from tests.hub.material import tiny_weights, write_base_files
from tests.hub.rollout.test_bases_and_folder import fleet, hub, make_variant, promote

__all__ = ["hub"]
OPERATOR = Identity("operator", frozenset(Scope))


def opened(settings: Settings) -> Services:
    return Services.open(settings)


def forget(services: Services, commit: str) -> None:
    with services.registry.catalog.write() as tx:
        tx.execute("DELETE FROM statements WHERE commit = ?", [commit])


def forge(services: Services, commit: str, other: str) -> None:
    """Give a commit the statement of another one."""
    with services.registry.catalog.write() as tx:
        tx.execute(
            "UPDATE statements SET envelope = (SELECT envelope FROM statements WHERE commit = ?) WHERE commit = ?",
            [other, commit],
        )


def commit_of(services: Services, version: str) -> str:
    return services.variants.get("dock-7", version).commit


def problems(services: Services, name: str) -> set[str]:
    return {finding.problem for finding in services.verification.of(name).findings}


class TestStatements:
    def test_what_the_hub_published_is_signed(self, hub: Services, tmp_path: Path) -> None:
        version = make_variant(hub, tmp_path)
        base, variant = hub.vouching.statement("base/universal@v1"), hub.vouching.statement(f"dock-7@{version}")
        definition: Any = variant.predicate["buildDefinition"]
        roles = {one["name"]: one["digest"]["sha256"] for one in definition["resolvedDependencies"]}
        job = hub.jobs.that_made(f"dock-7@{version}")
        assert job is not None
        assert roles["base"] == base.commit == job.spec.base_commit
        assert roles["base-weights"] == base.files["model.safetensors"]
        assert roles["dataset"] == job.spec.dataset_commit
        assert roles["deck"] == hub.variants.get("dock-7", version).deck
        run: Any = variant.predicate["runDetails"]
        assert run["metadata"]["invocationId"] == job.id
        assert run["builder"]["version"]["parcelhub"]

    def test_a_variant_without_a_statement_is_not_promoted(self, hub: Services, tmp_path: Path) -> None:
        version = make_variant(hub, tmp_path)
        forget(hub, commit_of(hub, version))
        with pytest.raises(StatementError, match="nobody has signed"):
            promote(hub, version)

    def test_the_statement_of_another_version_is_no_help(self, hub: Services, tmp_path: Path) -> None:
        first, second = make_variant(hub, tmp_path), make_variant(hub, tmp_path)
        forge(hub, commit_of(hub, second), commit_of(hub, first))
        with pytest.raises(StatementError, match="another version"):
            promote(hub, second)

    def test_a_served_variant_whose_statement_went_bad_is_left_out(self, hub: Services, tmp_path: Path) -> None:
        version = make_variant(hub, tmp_path)
        promote(hub, version)
        before = hub.serving_folder.read()["version"]
        forget(hub, commit_of(hub, version))
        assert hub.serving_folder.sync() == before + 1
        assert fleet(hub) is None
        assert list(hub.serving_folder.refused) == [f"dock-7@{version}"]
        assert {"not-vouched-for", "not-served"} <= problems(hub, "dock-7")
        hub.vouching.sign(f"dock-7@{version}", by="operator")
        hub.serving_folder.sync()
        assert fleet(hub) == f"dock-7@{version}"

    def test_a_base_that_nobody_signed_is_passed_over(self, hub: Services) -> None:
        repo = RepoId("model", "base", "universal")
        blob = hub.store.blobs.put_bytes(tiny_weights(b"smuggled in"))
        entry = FileEntry("model.safetensors", blob.sha256, blob.size)
        hub.store.repos.commit(repo, [entry], message="m", author="eve", tags=["v2"])
        hub.serving_folder.sync()
        assert hub.serving_folder.read()["base"] == "universal@v1"
        assert list(hub.serving_folder.refused) == ["base/universal@v2"]
        hub.vouching.sign("base/universal@v2", by="operator")
        hub.serving_folder.sync()
        assert hub.serving_folder.read()["base"] == "universal@v2"

    def test_old_data_folders_are_adopted_once(self, hub: Services, settings: Settings, tmp_path: Path) -> None:
        version = make_variant(hub, tmp_path)
        promote(hub, version)
        with hub.registry.catalog.write() as tx:
            tx.execute("DELETE FROM statements")
        hub.close()
        shutil.rmtree(settings.data / "keys")  # as it is before the first start of this version
        again = opened(settings)
        assert again.serving_folder.refused == {}
        assert fleet(again) == f"dock-7@{version}"
        forget(again, commit_of(again, version))
        again.close()
        again = opened(settings)  # the key is there: what lacks a statement now was not adopted
        assert list(again.serving_folder.refused) == [f"dock-7@{version}"]
        again.close()

    def test_the_shipped_base_is_signed_even_if_the_hub_died_before(self, hub: Services, settings: Settings) -> None:
        forget(hub, hub.bases.newest().commit)
        hub.close()
        again = opened(settings)
        assert again.vouching.statement("base/universal@v1").version == "v1"
        again.close()

    def test_rotation_keeps_what_was_signed(self, hub: Services, tmp_path: Path) -> None:
        version = make_variant(hub, tmp_path)
        hub.registry.keys.rotate()
        promote(hub, version)
        assert problems(hub, "dock-7") == set()


class TestPolicy:
    def test_the_policy_in_force_decides_on_what_was_measured(self, hub: Services, tmp_path: Path) -> None:
        version = make_variant(hub, tmp_path)
        rule = {"to": "fleet", "metrics": [{"metric": "variant_ap", "at_least": 0.9}]}
        hub.registry.policies.set(Policy.parse({"rules": [rule]}), "operator")
        with pytest.raises(MoveRefusedError, match=r"variant_ap is 0\.5, less than 0\.9"):
            promote(hub, version)
        rule["metrics"][0]["at_least"] = 0.5  # type: ignore[index]
        hub.registry.policies.set(Policy.parse({"rules": [rule]}), "operator")
        promote(hub, version)
        verdicts = [record.verdict for record in hub.registry.stages.history("dock-7")]
        assert verdicts == ["allowed", "refused", "allowed"]
        assert hub.verification.of("dock-7").ok

    def test_another_persons_approval(self, hub: Services, tmp_path: Path) -> None:
        version = make_variant(hub, tmp_path)
        hub.registry.policies.set(Policy.parse({"rules": [{"to": "fleet", "approvals": 1}]}), "operator")
        hub.promotions.approve("dock-7", version, "fleet", by="tester", note="mine")
        with pytest.raises(MoveRefusedError, match="has 0"):
            promote(hub, version)  # by the tester, whose own word does not count
        hub.promotions.approve("dock-7", version, "fleet", by="ann", note="")
        promote(hub, version)
        record = hub.registry.stages.history("dock-7")[0]
        assert [one["by"] for one in record.evidence["approvals"]] == ["tester", "ann"]  # type: ignore[union-attr,index,call-overload]
        assert hub.verification.of("dock-7").ok

    def test_not_worse_than_who_has_the_stage(self, hub: Services, tmp_path: Path) -> None:
        first, second = make_variant(hub, tmp_path), make_variant(hub, tmp_path)
        promote(hub, first)
        rule = {"to": "fleet", "metrics": [{"metric": "variant_ap", "not_below_holder": True}]}
        hub.registry.policies.set(Policy.parse({"rules": [rule]}), "operator")
        promote(hub, second)
        holder: Any = hub.registry.stages.history("dock-7")[0].evidence["holder"]
        assert holder["variant"] == f"cells/dock-7@{first}"
        assert holder["evaluation"]["variant_ap"] == 0.5

    @pytest.mark.slow
    def test_compare_and_swap(self, hub: Services, tmp_path: Path) -> None:
        first, second = make_variant(hub, tmp_path), make_variant(hub, tmp_path)
        hub.promotions.promote("dock-7", first, "fleet", actor="a", note="", expected=None)
        with pytest.raises(MoveRefusedError, match="held by"):
            hub.promotions.promote("dock-7", second, "fleet", actor="a", note="", expected=None)
        hub.promotions.promote("dock-7", second, "fleet", actor="a", note="", expected=first)
        assert fleet(hub) == f"dock-7@{second}"
        assert hub.verification.of("dock-7").ok


class TestLineage:
    def test_from_a_variant_up_to_who_uploaded(self, hub: Services, tmp_path: Path) -> None:
        version = make_variant(hub, tmp_path)
        found = hub.lineages.of(f"dock-7@{version}", "up", OPERATOR)
        kinds = {node.kind: node for node in found.nodes}
        assert set(kinds) == {"variant", "base", "deck", "dataset"}
        assert kinds["dataset"].facts["uploads"][0]["by"] == "a"
        assert {(edge.relation) for edge in found.edges} == {"base", "deck", "dataset"}

    def test_from_a_dataset_down_to_the_robots(self, hub: Services, tmp_path: Path) -> None:
        version = make_variant(hub, tmp_path)
        assert hub.lineages.of("acme/dock", "down", OPERATOR).served == []
        promote(hub, version)
        hub.tokens.issue("robot:arm-1", {"robot", "cell:dock-7"})
        hub.tokens.issue("robot:arm-2", {"robot", "cell:dock-8"})
        (served,) = hub.lineages.of("acme/dock", "down", OPERATOR).served
        assert (served.cell, served.stage, served.model, served.robots) == (
            "dock-7",
            "fleet",
            f"dock-7@{version}",
            ["arm-1", "local"],
        )

    def test_a_base_answers_where_no_variant_does(self, hub: Services, tmp_path: Path) -> None:
        hub.cells.create("dock-8", "")
        (served,) = hub.lineages.of("base/universal@v1", "down", OPERATOR).served
        assert (served.cell, served.stage) == ("dock-8", "base")
        with pytest.raises(UnknownBaseError):
            hub.lineages.of("base/universal@v9", "down", OPERATOR)

    def test_a_private_dataset_is_named_to_nobody_else(self, hub: Services, tmp_path: Path) -> None:
        version = make_variant(hub, tmp_path)
        hub.registry.directory.configure(RepoId("dataset", "acme", "dock"), private=True)
        stranger = Identity("eve-token", frozenset({Scope.READ}), "eve")
        found = hub.lineages.of(f"dock-7@{version}", "up", stranger)
        (dataset,) = (node for node in found.nodes if node.kind == "dataset")
        assert (dataset.name, dataset.facts) == ("a private dataset", {})
        with pytest.raises(NotFoundError):
            hub.lineages.of("acme/dock", "down", stranger)


class TestVerify:
    def test_bytes_that_changed_in_the_store_are_named(self, hub: Services, tmp_path: Path) -> None:
        version = make_variant(hub, tmp_path)
        promote(hub, version)
        assert hub.verification.of(f"dock-7@{version}").ok
        digest = hub.store.repos.entry(repo_of("dock-7"), version, "adapter_model.safetensors").sha256
        path = hub.store.blobs.local_path(digest)
        assert path is not None
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        (finding,) = hub.verification.of(f"dock-7@{version}").findings
        assert (finding.subject, finding.problem) == (f"dock-7@{version}/adapter_model.safetensors", "file-differs")
        hub.store.blobs.delete(digest)
        assert problems(hub, "dock-7") == {"file-differs"}

    def test_a_table_that_somebody_wrote_is_named(self, hub: Services, tmp_path: Path) -> None:
        first, second = make_variant(hub, tmp_path), make_variant(hub, tmp_path)
        promote(hub, first)
        path = hub.settings.serving_folder / "routing.json"
        table = json.loads(path.read_text())
        table["cells"]["dock-7"]["fleet"] = f"dock-7@{second}"
        path.write_text(json.dumps(table))
        assert problems(hub, "dock-7") == {"routing-differs"}

    def test_over_the_wire(self, client: Any, tmp_path: Path) -> None:
        with pytest.raises(HubAnswerError) as refused:
            client.verify("nowhere")
        assert refused.value.status == 404
        found = client.verify("base/universal@v1")
        assert (found.ok, found.statements) == (True, 1)
        assert client.statement("base/universal@v1").files.keys() >= {"model.safetensors", "config.json"}
        assert [key.signs for key in client.signing_keys()] == [True]
        policy = client.set_policy({"name": "mine", "rules": [{"to": "fleet", "approvals": 1}]})
        assert client.policy() == policy
        with pytest.raises(HubAnswerError, match="unknown key"):
            client.set_policy({"rules": [{"to": "fleet", "aprovals": 1}]})


def test_another_base_moves_in_when_it_is_signed(hub: Services, settings: Settings, tmp_path: Path) -> None:
    write_base_files(settings.base_source, mark=b" better")
    hub.close()
    again = opened(settings)
    assert again.serving_folder.read()["base"] == "universal@v2"
    assert again.vouching.statement("base/universal@v2").keyid == again.registry.keys.all()[0].id
    again.close()
