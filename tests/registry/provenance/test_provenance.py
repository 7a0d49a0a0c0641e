"""Keys, statements and envelopes: what is published is vouched for, and nothing else is believed."""

from __future__ import annotations

import base64
import json
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import RepoId
from registry.errors import KeyRingError, RevisionNotFoundError, StatementError
from registry.provenance import KeyRing, Material, Origin
from registry.provenance.dsse import EnvelopeError, encoded, seal, unseal
from registry.provenance.statements import PAYLOAD_TYPE

REPO = RepoId("model", "cells", "dock-7")
DECK = "d" * 64
ORIGIN = Origin("variant", [Material("deck", DECK, DECK)], run="job-1", versions={"parcelhub": "1"})


@pytest.fixture
def ring(tmp_path):
    return KeyRing.open(tmp_path / "keys")


def rows(registry, commit, **changed):
    """Change the envelope that the catalog keeps about a commit."""
    (row,) = registry.catalog.query("SELECT envelope FROM statements WHERE commit = ?", [commit])
    with registry.catalog.write() as tx:
        envelope = json.loads(row[0]) | changed
        tx.execute("UPDATE statements SET envelope = ? WHERE commit = ?", [json.dumps(envelope), commit])


def payload_of(statement) -> dict:
    return json.loads(base64.b64decode(json.loads(statement.envelope)["payload"]))


class TestKeys:
    def test_the_private_key_is_the_owners_alone(self, ring):
        path = ring.folder / "signing.pem"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(ring.folder.stat().st_mode) == 0o700
        path.chmod(0o644)
        with pytest.raises(KeyRingError, match="read by others"):
            ring.sign(b"m")

    def test_a_ring_is_made_once(self, ring, tmp_path):
        again = KeyRing.open(tmp_path / "keys")
        assert (ring.fresh, again.fresh) == (True, False)
        assert again.all() == ring.all()

    def test_the_old_key_is_believed_after_a_rotation(self, ring):
        before = ring.sign(b"m")
        new = ring.rotate()
        after = ring.sign(b"m")
        assert after[0] == new.id != before[0]
        assert all(ring.believes(keyid, b"m", signature) for keyid, signature in (before, after))
        assert [key.signs for key in ring.all()] == [True, False]

    def test_a_key_whose_file_is_gone_is_believed_no_more(self, ring):
        keyid, signature = ring.sign(b"m")
        (ring.folder / "trusted" / f"{keyid}.pem").unlink()
        assert not ring.believes(keyid, b"m", signature)
        assert not ring.trusts(keyid)

    def test_a_key_under_anothers_name_is_none(self, ring, tmp_path):
        other = KeyRing.open(tmp_path / "other")
        mine, theirs = ring.all()[0].id, other.all()[0].id
        foreign = (other.folder / "trusted" / f"{theirs}.pem").read_bytes()
        (ring.folder / "trusted" / f"{mine}.pem").write_bytes(foreign)
        assert not ring.trusts(mine)

    @pytest.mark.parametrize("keyid", ["", "../signing", "a" * 63, "a" * 64, "A" * 64])
    def test_odd_ids_are_nobodys(self, ring, keyid):
        assert not ring.believes(keyid, b"m", b"s")

    @pytest.mark.parametrize(
        "damage", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
    )
    def test_a_damaged_key_is_told(self, ring, damage):
        path = ring.folder / "signing.pem"
        path.write_bytes(damage)
        path.chmod(0o600)
        with pytest.raises(KeyRingError):
            ring.sign(b"m")


class TestEnvelopes:
    def test_the_encoding_is_that_of_the_standard(self):
        assert encoded("http://example.com/HelloWorld", b"hello world") == (
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        )

    @settings(deadline=None)
    @given(st.integers(0, 10_000), st.integers(1, 255))
    def test_no_changed_byte_is_believed(self, tmp_path_factory, at, by):
        ring = KeyRing.open(tmp_path_factory.getbasetemp() / "one-ring")
        sealed, keyid = seal(ring, PAYLOAD_TYPE, b'{"a": 1}')
        assert unseal(ring, PAYLOAD_TYPE, sealed).keyid == keyid
        changed = bytearray(sealed)
        changed[at % len(sealed)] ^= by
        try:
            opened = unseal(ring, PAYLOAD_TYPE, bytes(changed))
        except EnvelopeError:
            return
        assert opened.payload == b'{"a": 1}'  # a change that says the same: of JSON's spelling, of base64's spare bits

    def test_another_type_is_another_message(self, ring):
        sealed, _ = seal(ring, "text/plain", b"x")
        with pytest.raises(EnvelopeError, match="holds"):
            unseal(ring, PAYLOAD_TYPE, sealed)
        renamed = json.loads(sealed) | {"payloadType": PAYLOAD_TYPE}
        with pytest.raises(EnvelopeError, match="forged"):
            unseal(ring, PAYLOAD_TYPE, json.dumps(renamed).encode())

    @pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{}", b'{"payload":"!","payloadType":"","signatures":[]}'])
    def test_what_is_no_envelope(self, ring, data):
        with pytest.raises(EnvelopeError):
            unseal(ring, PAYLOAD_TYPE, data)


class TestStatements:
    def test_a_version_is_vouched_for(self, registry, publish):
        commit = publish("cells/dock-7", "v1")
        made = registry.statements.publish(REPO, "v1", ORIGIN)
        assert registry.statements.publish(REPO, "v1", ORIGIN) == made
        files = {entry.path: entry.sha256 for entry in registry.repos.tree(REPO, "v1")}
        assert (made.commit, made.version, made.files) == (commit.id, "v1", files)
        payload = payload_of(made)
        assert payload["_type"] == "https://in-toto.io/Statement/v1"
        assert payload["subject"] == [{"name": path, "digest": {"sha256": sha}} for path, sha in files.items()]
        definition = payload["predicate"]["buildDefinition"]
        assert definition["resolvedDependencies"][0]["digest"] == {"sha256": DECK}
        assert payload["predicate"]["runDetails"]["metadata"]["invocationId"] == "job-1"

    def test_what_nobody_signed_is_refused(self, registry, publish):
        commit = publish("cells/dock-7", "v1")
        with pytest.raises(StatementError, match="nobody has signed"):
            registry.statements.require(REPO, commit.id)
        with pytest.raises(RevisionNotFoundError):
            registry.statements.publish(REPO, "v9", ORIGIN)

    def test_a_forged_statement_is_refused_and_stays(self, registry, publish):
        commit = publish("cells/dock-7", "v1")
        payload = payload_of(registry.statements.publish(REPO, "v1", ORIGIN))
        payload["predicate"]["buildDefinition"]["resolvedDependencies"][0]["digest"]["sha256"] = "e" * 64
        rows(registry, commit.id, payload=base64.b64encode(json.dumps(payload).encode()).decode())
        for attempt in (
            lambda: registry.statements.require(REPO, commit.id),
            lambda: registry.statements.publish(REPO, "v1", ORIGIN),
        ):
            with pytest.raises(StatementError, match="forged"):
                attempt()

    def test_a_strangers_statement_is_refused(self, registry, publish):
        commit = publish("cells/dock-7", "v1")
        made = registry.statements.publish(REPO, "v1", ORIGIN)
        stranger, payload = Ed25519PrivateKey.generate(), base64.b64decode(json.loads(made.envelope)["payload"])
        signature = stranger.sign(encoded(PAYLOAD_TYPE, payload))
        rows(registry, commit.id, signatures=[{"keyid": "e" * 64, "sig": base64.b64encode(signature).decode()}])
        with pytest.raises(StatementError, match="does not trust"):
            registry.statements.require(REPO, commit.id)

    def test_the_statement_about_another_version_is_refused(self, registry, publish):
        publish("cells/dock-7", "v1")
        other = publish("cells/dock-7", "v2")
        foreign = registry.statements.publish(REPO, "v1", ORIGIN)
        registry.statements.publish(REPO, "v2", ORIGIN)
        rows(registry, other.id, **json.loads(foreign.envelope))
        with pytest.raises(StatementError, match="another version"):
            registry.statements.require(REPO, other.id)

    def test_a_statement_outlives_its_key(self, registry, publish):
        commit = publish("cells/dock-7", "v1")
        made = registry.statements.publish(REPO, "v1", ORIGIN)
        registry.keys.rotate()
        assert registry.statements.require(REPO, commit.id) == made
        (registry.keys.folder / "trusted" / f"{made.keyid}.pem").unlink()
        with pytest.raises(StatementError, match="does not trust"):
            registry.statements.require(REPO, commit.id)
