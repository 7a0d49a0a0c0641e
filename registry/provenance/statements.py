"""Signed statements about published versions: which files they have, and what they were made from.

The form is in-toto's Statement v1: the subjects are the version's files by sha256, the predicate is SLSA's provenance
v1, whose resolved dependencies name the base, the deck and the datasets by digest. It travels in a DSSE envelope.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from registry.canonical import JSON, canonical_json
from registry.catalog.catalog import Catalog, from_db, to_db
from registry.errors import InvalidValueError, StatementError
from registry.provenance.dsse import EnvelopeError, seal, unseal
from registry.provenance.keys import KeyRing
from registry.repos.repos import Repos
from registry.types import Digest, FileEntry, RepoId, check_digest, check_name

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_BUILD_TYPE: Final = "urn:parcelhub:build:{}:v1"


@dataclass(frozen=True, slots=True)
class Material:
    """Something that a version was made from: `role` ("base", "deck", "dataset"), a name, a sha256 or commit id."""

    role: str
    name: str
    digest: Digest

    def __post_init__(self) -> None:
        check_name(self.role, "role")
        check_digest(self.digest)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version comes from. `kind` is "base" or "variant"; `run` the job that trained it; `versions` the
    programs' versions; `parameters` what the run was asked for."""

    kind: str
    materials: Sequence[Material] = ()
    run: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that a trusted key vouches for; `files` maps paths to sha256."""

    repo: str
    version: str
    commit: Digest
    files: Mapping[str, Digest]
    predicate: Mapping[str, Any]
    keyid: Digest
    signed_at: datetime
    envelope: bytes


class Statements:
    """The statements of a registry's versions, at most one a commit. Use from any number of threads."""

    def __init__(self, catalog: Catalog, repos: Repos, ring: KeyRing) -> None:
        self._catalog = catalog
        self._repos = repos
        self._ring = ring

    def publish(self, repo: RepoId, version: str, origin: Origin) -> Statement:
        """Sign what a tag names, if nobody trusted has yet. Raises as `Repos.resolve`, KeyRingError.

        A statement that is there and not believed (a forged one, or one of a key that is trusted no more) stays as
        it is and is refused: whoever can publish must not be able to launder it.
        """
        commit = self._repos.resolve(repo, f"refs/tags/{version}").id
        if not self.has(commit):
            files = self._repos.tree(repo, commit)
            payload = _payload(repo, version, commit, files, origin)
            envelope, keyid = seal(self._ring, PAYLOAD_TYPE, payload)
            with self._catalog.write() as tx:
                tx.execute(
                    "INSERT OR IGNORE INTO statements VALUES (?, ?, ?, ?)",
                    [commit, envelope.decode(), keyid, to_db(datetime.now(UTC))],
                )
        return self.require(repo, commit)

    def has(self, commit: Digest) -> bool:
        """Whether there is a statement about a commit, believed or not."""
        return bool(self._catalog.query("SELECT 1 FROM statements WHERE commit = ?", [commit]))

    def require(self, repo: RepoId, commit: Digest) -> Statement:
        """The statement about a commit, if it is true. Raises StatementError, RepoNotFoundError, KeyRingError.

        True is one that a trusted key signed, that speaks of this very commit, and that names each of its files with
        the digest that it has, and no others.
        """
        rows = self._catalog.query("SELECT envelope, signed_at FROM statements WHERE commit = ?", [commit])
        if not rows:
            raise StatementError(repo, commit, "nobody has signed a statement about it")
        envelope = str(rows[0][0]).encode()
        try:
            opened = unseal(self._ring, PAYLOAD_TYPE, envelope)
            found = _parse(opened.payload)
        except (EnvelopeError, InvalidValueError, ValueError, KeyError, TypeError) as error:
            said = str(error) if isinstance(error, EnvelopeError) else "it is no statement of ours"
            raise StatementError(repo, commit, f"its statement is not believed: {said}") from error
        if found.commit != commit:
            raise StatementError(
                repo, commit, f"its statement speaks of another version ({found.repo}@{found.version})"
            )
        files = {entry.path: entry.sha256 for entry in self._repos.tree(repo, commit)}
        if files != found.files:
            wrong = sorted(set(files.items()) ^ set(found.files.items()))[0][0]
            raise StatementError(repo, commit, f"its statement speaks of other bytes of {wrong!r}")
        return Statement(
            found.repo,
            found.version,
            commit,
            files,
            found.predicate,
            opened.keyid,
            from_db(rows[0][1]),
            envelope,
        )


@dataclass(frozen=True, slots=True)
class _Claim:
    repo: str
    version: str
    commit: str
    files: Mapping[str, str]
    predicate: Mapping[str, Any]


def _payload(repo: RepoId, version: str, commit: Digest, files: Sequence[FileEntry], origin: Origin) -> bytes:
    subjects: list[JSON] = [{"name": entry.path, "digest": {"sha256": entry.sha256}} for entry in files]
    dependencies: list[JSON] = [
        {"name": each.role, "uri": f"urn:parcelhub:{each.role}:{each.name}", "digest": {"sha256": each.digest}}
        for each in origin.materials
    ]
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": subjects,
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": _BUILD_TYPE.format(origin.kind),
                    "externalParameters": {"repo": str(repo), "version": version, **origin.parameters},
                    "internalParameters": {"commit": commit},
                    "resolvedDependencies": dependencies,
                },
                "runDetails": {
                    "builder": {"id": "urn:parcelhub:hub", "version": dict(origin.versions)},
                    "metadata": {"invocationId": origin.run or ""},
                },
            },
        }
    )


def _parse(payload: bytes) -> _Claim:
    """Raises ValueError, KeyError or TypeError for what `_payload` did not write."""
    fields: dict[str, Any] = json.loads(payload)
    if fields["_type"] != STATEMENT_TYPE or fields["predicateType"] != PREDICATE_TYPE:
        raise ValueError("another type")
    predicate = fields["predicate"]
    definition = predicate["buildDefinition"]
    files = {str(one["name"]): check_digest(one["digest"]["sha256"]) for one in fields["subject"]}
    if len(files) != len(fields["subject"]):
        raise ValueError("a file twice")
    asked = definition["externalParameters"]
    return _Claim(
        str(asked["repo"]), str(asked["version"]), str(definition["internalParameters"]["commit"]), files, predicate
    )
