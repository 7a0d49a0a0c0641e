"""Every decision is replayed from digests alone; whatever was done to one of them is found and named."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime

import pytest

from registry import Registry, Variant
from registry.backup.audit import audit_cell
from registry.canonical import canonical_json
from registry.errors import InvalidNameError, MoveRefusedError, NothingToRollBackError, RefProtectedError
from registry.promotion.policy import FIRST, Policy
from registry.promotion.stages import Stages
from registry.stage_types import HELD_STAGES, DecisionRecord
from registry.types import RepoId
from tests.registry.conftest import EVALUATED, POLICY

CELL = "dock-7"
REPO = RepoId("model", "cells", CELL)


@pytest.fixture
def move(registry):
    def move(variant: Variant, stage: str, evidence=EVALUATED, **options):
        options = {"actor": "ann", "policy_digest": POLICY} | options
        return registry.stages.move(CELL, variant, stage, evidence=evidence, **options)

    return move


@pytest.fixture
def life(registry, move, variants):
    """What happens to a cell's variants: four ways forward, a refusal, a lost race, two ways back."""
    v1, v2, v3, _ = variants
    done = [move(v1, "candidate"), move(v1, "fleet"), move(v2, "station")]
    with pytest.raises(MoveRefusedError) as refused:
        move(v2, "fleet", evidence={})
    with pytest.raises(MoveRefusedError) as lost:
        move(v2, "fleet", expected_current=v3)
    done += [refused.value.record, lost.value.record, move(v2, "fleet", expected_current=v1), move(v3, "fleet")]
    done += [registry.stages.rollback(CELL, "bob"), registry.stages.rollback(CELL, "bob")]
    return done


def audit(registry):
    return audit_cell(registry, CELL, registry.keys)


def kinds(registry) -> set[str]:
    return {finding.problem for finding in audit(registry).findings}


def blob_file(registry, digest: str):
    path = registry.blobs.local_path(digest)
    assert path is not None
    path.chmod(0o644)
    return path


def change(registry, sql: str, *params) -> None:
    with registry.catalog.write() as tx:
        tx.execute(sql, list(params))


def test_a_true_history_is_confirmed(registry, life):
    found = audit(registry)
    assert (found.ok, found.decisions, found.notes) == (True, len(life), ())


def test_no_history_is_a_true_one(registry):
    assert audit_cell(registry, "nowhere", registry.keys).ok


@pytest.mark.parametrize("at", range(9))
def test_tampered_evidence_is_found_in_every_record(registry, life, at):
    path = blob_file(registry, life[at].id)
    path.write_bytes(path.read_bytes().replace(b"ann", b"eve").replace(b"bob", b"eve"))
    found = audit(registry).findings
    assert (found[0].subject, found[0].problem) == (life[at].id, "tampered")


@pytest.mark.parametrize("at", range(9))
def test_a_missing_record_is_found(registry, life, at):
    registry.blobs.delete(life[at].id)
    found = audit(registry).findings
    assert (found[0].subject, found[0].problem) == (life[at].id, "missing")


def test_a_changed_policy_is_found(registry, life):
    blob_file(registry, POLICY).write_bytes(b'{"gate":"evidence","demands":{}}')
    assert kinds(registry) == {"policy-changed"}


def test_a_missing_policy_is_found(registry, life):
    registry.blobs.delete(POLICY)
    assert kinds(registry) == {"policy-missing"}


def test_a_missing_deck_is_found(registry, move, variants):
    deck = registry.blobs.put_bytes(b"{}").sha256
    move(variants[0], "fleet", evidence=EVALUATED | {"deck": deck})
    assert audit(registry).ok
    blob_file(registry, deck).write_bytes(b"[]")
    assert kinds(registry) == {"evidence-changed"}
    registry.blobs.delete(deck)
    assert kinds(registry) == {"evidence-missing"}


def forge(registry, last: DecisionRecord, variant: Variant, evidence) -> DecisionRecord:
    """A decision that was never made, written as one who has the store and the catalog, but no key, can write it."""
    record = DecisionRecord(
        kind="move",
        cell=CELL,
        variant=variant,
        commit=registry.repos.resolve(variant.repo, variant.version).id,
        from_stage=None,
        to_stage="fleet",
        holder=registry.stages.current(CELL)["fleet"],
        actor="eve",
        note="",
        evidence=evidence,
        policy=POLICY,
        restores=None,
        verdict="allowed",
        reason=f"policy {FIRST.name!r} is content",
        previous=last.id,
        decided_at=datetime.now(UTC),
    )
    unsigned = Stages(registry.catalog, registry.blobs, registry.repos, registry.policies)
    with registry.catalog.write() as tx:
        unsigned._record(tx, record)
        tx.execute(
            "UPDATE stage_variants SET stage = 'candidate', decision = ? WHERE cell = ? AND stage = 'fleet'",
            [record.id, CELL],
        )
        tx.execute(
            "INSERT INTO stage_variants VALUES (?, ?, ?, 'fleet', ?)", [CELL, str(variant), record.commit, record.id]
        )
        tx.execute("UPDATE refs SET commit = ? WHERE kind = 'stage' AND name = 'refs/stages/fleet'", [record.commit])
    return record


def test_a_forged_record_is_found_by_its_missing_signature(registry, life, variants):
    record = forge(registry, life[-1], variants[3], EVALUATED)
    (found,) = audit(registry).findings
    assert (found.subject, found.problem) == (record.id, "unsigned")


def test_a_forged_record_that_the_policy_refuses_is_found_without_any_key(registry, life, variants):
    record = forge(registry, life[-1], variants[3], {})
    found = {(one.subject, one.problem) for one in audit_cell(registry, CELL).findings}
    assert found == {(record.id, "verdict-differs")}


def test_a_signature_of_another_record_is_forged(registry, life):
    change(
        registry,
        "UPDATE decision_seals SET signature = (SELECT signature FROM decision_seals WHERE decision = ?) "
        "WHERE decision = ?",
        life[0].id,
        life[1].id,
    )
    assert kinds(registry) == {"forged"}


def test_a_key_that_is_trusted_no_more(registry, life):
    registry.keys.rotate()
    (old,) = (key for key in registry.keys.all() if not key.signs)
    assert audit(registry).ok
    (registry.keys.folder / "trusted" / f"{old.id}.pem").unlink()
    assert kinds(registry) == {"foreign-key"}


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("UPDATE stage_variants SET stage = 'fleet' WHERE variant = 'cells/dock-7@v3'", "stage-differs"),
        ("DELETE FROM stage_variants WHERE variant = 'cells/dock-7@v2'", "stage-differs"),
        ("UPDATE decisions SET record = replace(record, 'ann', 'eve')", "record-differs"),
        ("DELETE FROM decisions WHERE number = 2", "not-listed"),
        ("UPDATE refs SET commit = 'f' WHERE kind = 'stage'", "ref-differs"),
        ("DELETE FROM refs WHERE kind = 'stage'", "ref-differs"),
        ("DELETE FROM refs WHERE name = 'v1' AND kind = 'tag'", "tag-missing"),
        ("UPDATE refs SET commit = 'f' WHERE name = 'v1' AND kind = 'tag'", "tag-moved"),
        ("INSERT INTO decisions (id, number, cell, record) VALUES ('f', -1, 'dock-7', '{}')", "outside-the-chain"),
    ],
)
def test_a_changed_catalog_is_found(registry, life, sql, problem):
    change(registry, sql)
    assert problem in kinds(registry)


def test_records_of_the_first_schema_are_read_and_replayed(registry, life, tmp_path):
    """A data folder from before: no expectations, no signatures."""
    renamed: dict[str, str] = {}
    change(registry, "DELETE FROM decisions")
    change(registry, "DELETE FROM decision_seals")
    for record in life:
        fields = json.loads(record.document())
        del fields["expected"]
        fields["schema"] = 1
        for link in ("previous", "restores"):
            fields[link] = renamed.get(fields[link], fields[link])
        document = canonical_json(fields)
        blob = registry.blobs.put_bytes(document)
        renamed[record.id] = blob.sha256
        change(
            registry,
            "INSERT INTO decisions (id, cell, record) VALUES (?, ?, ?)",
            blob.sha256,
            CELL,
            document.decode(),
        )
        change(registry, "UPDATE stage_variants SET decision = ? WHERE decision = ?", blob.sha256, record.id)
        assert DecisionRecord.parse(document).document() == document
    found = audit(registry)
    assert found.ok, found.findings
    assert len(found.notes) == len(life)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_was_done_by_the_book_is_confirmed(registry, move, variants, seed):
    chance = random.Random(seed)
    for _ in range(40):
        with_holder = {"expected_current": chance.choice([None, *variants])} if chance.random() < 0.3 else {}
        try:
            if chance.random() < 0.3:
                registry.stages.rollback(CELL, "bob", stage=chance.choice(HELD_STAGES), **with_holder)
            else:
                stage = chance.choice(["candidate", "station", "beta", "fleet", "archived"])
                move(chance.choice(variants), stage, evidence=chance.choice([EVALUATED, {}]), **with_holder)
        except (MoveRefusedError, NothingToRollBackError):
            continue
    found = audit(registry)
    assert found.ok, found.findings


def test_stages_are_refs_that_only_decisions_move(registry, move, variants, add):
    v1, v2, *_ = variants
    move(v1, "fleet")
    move(v2, "beta")
    pinned = {ref.name: ref.commit for ref in registry.repos.refs(REPO) if ref.kind == "stage"}
    assert pinned == {
        "refs/stages/fleet": registry.repos.resolve(REPO, "v1").id,
        "refs/stages/beta": registry.repos.resolve(REPO, "v2").id,
    }
    assert registry.repos.resolve(REPO, "refs/stages/beta").id == pinned["refs/stages/beta"]
    move(v2, "fleet", expected_current=v1)
    names = [ref.name for ref in registry.repos.refs(REPO) if ref.kind == "stage"]
    assert names == ["refs/stages/fleet"]
    with pytest.raises(InvalidNameError, match="only a decision"):
        registry.repos.commit(REPO, [add("a", b"a")], message="m", author="a", branch="refs/stages/fleet")
    with pytest.raises(InvalidNameError):
        registry.repos.branch(REPO, "refs/stages/fleet", "v1")
    with pytest.raises(RefProtectedError):
        registry.repos.delete_ref(REPO, "refs/stages/fleet", "stage")


def test_stages_from_before_there_were_refs_get_theirs(tmp_path, variants, registry, move):
    move(variants[0], "fleet")
    change(registry, "DELETE FROM refs WHERE kind = 'stage'")
    for table in ("statements", "decision_seals", "policies", "approvals"):
        change(registry, f"DROP TABLE {table}")
    for sequence in ("policy_numbers", "approval_numbers"):
        change(registry, f"DROP SEQUENCE {sequence}")
    change(registry, "DELETE FROM migrations WHERE set_name = 'provenance'")
    registry.close()
    with Registry.open(tmp_path / "data") as again:
        assert again.repos.resolve(REPO, "refs/stages/fleet").id == again.repos.resolve(REPO, "v1").id
        assert audit_cell(again, CELL).ok


def test_a_policy_in_force_judges_and_is_replayed(registry, move, variants):
    strict = Policy.parse({"name": "two eyes", "rules": [{"to": "fleet", "approvals": 1}]})
    in_force = registry.policies.set(strict, "ann")
    assert registry.policies.current() == in_force
    commit = registry.repos.resolve(REPO, "v1").id
    with pytest.raises(MoveRefusedError, match="approval of 1"):
        move(variants[0], "fleet", policy_digest=in_force.digest)
    given = registry.policies.approve(CELL, variants[0], commit, "fleet", by="bob")
    registry.policies.approve(CELL, variants[0], commit, "fleet", by="bob")
    assert registry.policies.approvals(CELL, variants[0], commit, "fleet") == (given,)
    evidence = EVALUATED | {"approvals": [given.evidence()]}
    record = move(variants[0], "fleet", evidence=evidence, policy_digest=in_force.digest)
    registry.policies.use(CELL, variants[0], commit, "fleet", record.id)
    assert registry.policies.approvals(CELL, variants[0], commit, "fleet") == ()
    assert audit(registry).ok
    assert [digest for digest, *_ in registry.policies.history()] == [strict.digest]
