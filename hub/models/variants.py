"""The variants: what is in the repositories `cells/<cell>`, how it measured, and where it stands."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any

import msgspec

from hub.datasets.store import Store
from hub.errors import UNREADABLE, InputError, UnknownVariantError
from hub.jobs.queue import Jobs
from hub.migrations.tables import timestamp
from hub.models.bases import next_version
from hub.schemas import core as s
from hub.schemas.jobs import JobSpec
from registry.canonical import JSON
from registry.catalog.catalog import Catalog
from registry.errors import EntryNotFoundError, NotFoundError
from registry.lineage.lineage import Edge, Lineage
from registry.promotion.policies import Policies
from registry.promotion.stages import Stages
from registry.stage_types import Assignment
from registry.types import Artifact, Ref, RepoId, Variant

log = logging.getLogger("parcelhub.hub")

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
    """The repo of a cell's variants. Raises InvalidNameError for what is no name."""
    return RepoId("model", NAMESPACE, cell)


class Variants:
    """Versions of adapters: a tag of a cell's repository, and its row in the stages."""

    def __init__(
        self, catalog: Catalog, store: Store, lineage: Lineage, stages: Stages, jobs: Jobs, policies: Policies
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._lineage = lineage
        self._stages = stages
        self._jobs = jobs
        self._policies = policies
        self._publishing = threading.Lock()
        # Commits never change, so what one says is read once.
        self._document = lru_cache(maxsize=4096)(self._read_document)

    def document(self, cell: str, commit: str) -> Document:
        """The checked `variant.json` of a commit; raises InputError if the commit cannot be served."""
        return self._document(cell, commit)

    def publish(self, job: s.Job, answer: s.FinishIn) -> str:
        """Tag a job's commit as the cell's next version, record what it was made from, make it a candidate.

        Safe to repeat: a commit that has its tag keeps it. One at a time: two jobs of a cell that end together get
        two versions, one job that tells twice gets one.
        """
        with self._publishing:
            return self._publish(job, answer)

    def _publish(self, job: s.Job, answer: s.FinishIn) -> str:
        spec, repo = job.spec, repo_of(job.spec.cell)
        refresh = spec.refresh if isinstance(spec, s.FinetuneSpec) else None
        refs = self._store.repos.refs(repo)
        tagged = next((r.name for r in refs if r.kind == "tag" and r.commit == answer.commit), None)
        version = tagged or self._store.repos.tag(repo, self._next_version(spec.cell, refs), answer.commit).name
        variant = Variant(repo, version)
        made = Artifact("variant", str(variant), answer.commit)
        deck = Artifact("deck", answer.deck, answer.deck)
        edges = [
            Edge(made, Artifact("base", spec.base, spec.base_commit), "base"),
            Edge(made, deck, "deck"),
            Edge(deck, Artifact("dataset", spec.dataset, spec.dataset_commit), "dataset"),
        ]
        if refresh is not None and (start := refresh.start) is not None:
            edges.append(Edge(made, Artifact("variant", f"cells/{start.version}", start.commit), "start"))
        self._lineage.record(edges)
        if not any(standing.variant == variant for standing in self._stages.assignments(spec.cell)):
            evidence: dict[str, JSON] = {"job": job.id, "deck": answer.deck}
            self._stages.move(
                spec.cell,
                variant,
                "candidate",
                actor=f"job:{job.id}",
                evidence=evidence,
                policy_digest=self._policies.current().digest,
                note=_made_by(spec),
            )
        self.enlist(spec.cell, version, answer.commit, job, answer.metrics)
        return f"{spec.cell}@{version}"

    def _next_version(self, cell: str, refs: Iterable[Ref]) -> str:
        """One more than the highest version that there is or was: a tag may be gone, and decisions still name it."""
        names = {ref.name for ref in refs if ref.kind == "tag"} | self._stages.named(cell)
        return next_version(Ref(name, "tag", "") for name in names)

    def all(self, cell: str | None = None) -> list[s.Version]:
        """The variants of all cells or of one, newest first."""
        return self.page(limit=10_000_000, cell=cell)

    def page(
        self,
        *,
        limit: int,
        after: str = "",
        cell: str | None = None,
        stage: str | None = None,
        contains: str = "",
        hidden: Collection[str] = (),
    ) -> list[s.Version]:
        """At most `limit` variants, newest first, those made before the variant `after` (`<cell>@v3`); none of the
        cells in `hidden`.

        One statement for a page: ten thousand variants are listed as quickly as ten.
        """
        where, params = ["true"], []
        if after:
            before, _, version = after.partition("@")
            if before in hidden:  # no place to go on from: that would tell which of its versions are there
                return []
            where.append(
                "(v.created_at, v.cell, v.version) <"
                " (SELECT (created_at, cell, version) FROM hub_variants WHERE cell = ? AND version = ?)"
            )
            params += [before, version]
        for condition, value in (("v.cell = ?", cell), ("s.stage = ?", stage)):
            if value is not None:
                where.append(condition)
                params.append(value)
        if hidden:
            where.append("NOT list_contains(?::VARCHAR[], v.cell)")
            params.append(sorted(hidden))  # type: ignore[arg-type]
        if contains:
            where.append("contains(v.cell, ?)")
            params.append(contains.lower())
        rows = self._catalog.query(
            f"{_LISTED} WHERE {' AND '.join(where)} ORDER BY v.created_at DESC, v.cell DESC, v.version DESC LIMIT ?",
            [*params, limit],
        )
        return [_version(row) for row in rows]

    def get(self, cell: str, version: str) -> s.Version:
        """One variant. Raises UnknownVariantError."""
        rows = self._catalog.query(f"{_LISTED} WHERE v.cell = ? AND v.version = ?", [cell, version])
        if not rows:
            raise UnknownVariantError(f"the cell {cell!r} has no variant {version!r}")
        return _version(rows[0])

    def catch_up(self) -> None:
        """List the variants that got their stage before there was a list, or by hand."""
        listed = set(self._catalog.query("SELECT cell, version FROM hub_variants"))
        for standing in self._stages.assignments():
            if (standing.cell, standing.variant.version) not in listed:
                try:
                    self.enlist(standing.cell, standing.variant.version, standing.commit)
                except (InputError, UnknownVariantError) as error:
                    log.warning("not listed: %s@%s: %s", standing.cell, standing.variant.version, error)

    def standing(self, cell: str, version: str) -> Assignment:
        """Where a variant stands. Raises UnknownVariantError."""
        for standing in self._stages.assignments(cell):
            if standing.variant.version == version:
                return standing
        raise UnknownVariantError(f"the cell {cell!r} has no variant {version!r}")

    def enlist(
        self, cell: str, version: str, commit: str, job: s.Job | None = None, metrics: dict[str, Any] | None = None
    ) -> None:
        """Keep what lists show of a variant beside its stage."""
        document = self.document(cell, commit)
        made = job or self._jobs.that_made(f"{cell}@{version}")
        told = metrics if metrics is not None else (made.metrics if made else {})
        committed = self._store.repos.resolve(repo_of(cell), commit)
        with self._catalog.write() as db:
            db.execute(
                "INSERT OR IGNORE INTO hub_variants (cell, version, commit, document, job, dataset, metrics,"
                " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    cell,
                    version,
                    commit,
                    msgspec.json.encode(document).decode(),
                    made.id if made else None,
                    f"{made.spec.dataset}@{made.spec.dataset_commit}" if made else "",
                    msgspec.json.encode(told).decode(),
                    committed.created_at.timestamp(),
                ],
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
        except UNREADABLE as error:
            raise InputError(f"{repo}@{commit[:12]}/{DOCUMENT}: {error}") from error


def _made_by(spec: JobSpec) -> str:
    if not isinstance(spec, s.FinetuneSpec):
        return f"made by {spec.kind}"
    if spec.growth is not None:
        return "made by a refit on another base"
    return "made by a refresh" if spec.refresh else "made by a fine-tune"


_LISTED = (
    "SELECT v.cell, v.version, v.commit, coalesce(s.stage, 'candidate'), v.document, v.created_at, v.metrics,"
    " v.dataset, v.job FROM hub_variants v LEFT JOIN stage_variants s"
    " ON s.cell = v.cell AND s.variant = 'cells/' || v.cell || '@' || v.version"
)


def _version(row: tuple[Any, ...]) -> s.Version:
    cell, version, commit, stage, text, created_at, metrics, dataset, job = row
    document = msgspec.json.decode(text, type=Document)
    measured = msgspec.json.decode(metrics)
    return s.Version(
        name=f"{cell}@{version}",
        cell=cell,
        version=version,
        commit=commit,
        stage=stage,
        base=str(document.base),
        created_at=timestamp(created_at),
        metrics=measured,
        labels=document.labels,
        deck=document.deck,
        dataset=dataset,
        job=job,
        judgement=s.Judgement.of(measured),
    )
