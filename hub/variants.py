"""The variants: what is in the repositories `cells/<cell>`, how it measured, and where it stands."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from hub import schemas as s
from hub.bases import next_version
from hub.errors import InputError, UnknownVariantError
from hub.jobs import Jobs
from hub.store import Store
from hub.tables import timestamp
from registry.canonical import JSON
from registry.errors import EntryNotFoundError, NotFoundError
from registry.lineage import Edge, Lineage
from registry.stage_types import Assignment
from registry.stages import Stages
from registry.types import Artifact, Digest, RepoId, Variant

NAMESPACE = "cells"
DOCUMENT = "variant.json"
FILES = ("adapter_config.json", "adapter_model.safetensors", DOCUMENT)
"""What it takes to serve a variant; its repository has the model card as well."""


class BaseRef(msgspec.Struct, frozen=True):
    """The base version that a variant was trained on."""

    repo: str
    revision: str
    commit: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


class Document(msgspec.Struct, frozen=True):
    """`variant.json`."""

    base: BaseRef
    labels: dict[str, str]
    rank: int
    deck: str


def repo_of(cell: str) -> RepoId:
    return RepoId("model", NAMESPACE, cell)


class Variants:
    """Versions of adapters: a tag of a cell's repository, and its row in the stages."""

    def __init__(self, store: Store, lineage: Lineage, stages: Stages, jobs: Jobs, *, policy: Digest) -> None:
        self._store = store
        self._lineage = lineage
        self._stages = stages
        self._jobs = jobs
        self._policy = policy
        # Commits never change, so what one says is read once.
        self._document = lru_cache(maxsize=4096)(self._read_document)

    def document(self, cell: str, commit: str) -> Document:
        """The checked `variant.json` of a commit; raises InputError if the commit cannot be served."""
        return self._document(cell, commit)

    def publish(self, job: s.Job, answer: s.FinishIn) -> str:
        """Tag a job's commit as the cell's next version, record what it was made from, make it a candidate.

        Safe to repeat: a commit that has its tag keeps it.
        """
        spec, repo = job.spec, repo_of(job.spec.cell)
        refs = self._store.repos.refs(repo)
        tagged = next((r.name for r in refs if r.kind == "tag" and r.commit == answer.commit), None)
        version = tagged or self._store.repos.tag(repo, next_version(refs), answer.commit).name
        variant = Variant(repo, version)
        made = Artifact("variant", str(variant), answer.commit)
        deck = Artifact("deck", answer.deck, answer.deck)
        self._lineage.record(
            [
                Edge(made, Artifact("base", spec.base, spec.base_commit), "base"),
                Edge(made, deck, "deck"),
                Edge(deck, Artifact("dataset", spec.dataset, spec.dataset_commit), "dataset"),
            ]
        )
        if not any(standing.variant == variant for standing in self._stages.assignments(spec.cell)):
            evidence: dict[str, JSON] = {"job": job.id, "deck": answer.deck}
            self._stages.move(
                spec.cell,
                variant,
                "candidate",
                actor=f"job:{job.id}",
                evidence=evidence,
                policy_digest=self._policy,
                note="made by a fine-tune",
            )
        return f"{spec.cell}@{version}"

    def all(self, cell: str | None = None) -> list[s.Version]:
        """The variants of all cells or of one, newest first."""
        found = [self._describe(standing) for standing in self._stages.assignments(cell)]
        return sorted(found, key=lambda version: version.created_at, reverse=True)

    def get(self, cell: str, version: str) -> s.Version:
        """One variant."""
        return self._describe(self.standing(cell, version))

    def standing(self, cell: str, version: str) -> Assignment:
        """Where a variant stands."""
        for standing in self._stages.assignments(cell):
            if standing.variant.version == version:
                return standing
        raise UnknownVariantError(f"the cell {cell!r} has no variant {version!r}")

    def _describe(self, standing: Assignment) -> s.Version:
        cell, version = standing.cell, standing.variant.version
        name = f"{cell}@{version}"
        document = self.document(cell, standing.commit)
        job = self._jobs.that_made(name)
        committed = self._store.repos.resolve(repo_of(cell), standing.commit)
        return s.Version(
            name=name,
            cell=cell,
            version=version,
            commit=standing.commit,
            stage=standing.stage,
            base=str(document.base),
            created_at=timestamp(committed.created_at.timestamp()),
            metrics=job.metrics if job else {},
            labels=document.labels,
            deck=document.deck,
            dataset=f"{job.spec.dataset}@{job.spec.dataset_commit}" if job else "",
            job=job.id if job else None,
        )

    def _read_document(self, cell: str, commit: str) -> Document:
        repo = repo_of(cell)
        try:
            entries = {name: self._store.repos.entry(repo, commit, name) for name in FILES}
        except EntryNotFoundError as error:
            raise InputError(f"not a variant: {error}") from error
        except NotFoundError as error:
            raise UnknownVariantError(str(error)) from error
        try:
            return msgspec.json.decode(self._store.blobs.read(entries[DOCUMENT].sha256), type=Document)
        except msgspec.DecodeError as error:
            raise InputError(f"{repo}@{commit[:12]}/{DOCUMENT}: {error}") from error
