"""Lineage by the names that people use, with what is known of each artifact: uploads, stages, cells and robots."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from hub.accounts.privacy import CellPrivacy
from hub.accounts.tokens import CELL_SCOPE, Identity
from hub.errors import InputError
from hub.migrations.tables import timestamp
from hub.models.base_lineage import SCENES, BaseLineage
from hub.models.bases import Bases
from hub.schemas import provenance as p
from registry.catalog.catalog import Catalog
from registry.errors import InvalidNameError, NotFoundError
from registry.lineage.graph import Direction, find, walk
from registry.registry import Registry
from registry.stage_types import HELD_STAGES
from registry.types import Artifact, RepoId

MAX_UPLOADS = 50
Readable = Callable[[Sequence[str], Identity], set[str]]
"""Those of these datasets that somebody may see."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_Stages = dict[str, list[tuple[str, str]]]
"""Variant -> (cell, stage) for each place where robots are served by it."""


class Lineages:
    """Both ways: what something was made from, and what was made of it and which robots run that."""

    def __init__(
        self, registry: Registry, bases: Bases, readable: Readable, origins: BaseLineage, privacy: CellPrivacy
    ) -> None:
        self._privacy = privacy
        self._registry = registry
        self._bases = bases
        self._readable = readable
        self._origins = origins
        self._catalog: Catalog = registry.catalog

    def of(self, name: str, way: Direction, who: Identity, *, limit: int = 5000) -> p.LineageOut:
        """The lineage of a variant (`dock-7@v3`), a base (`base/universal@v1`), a dataset (`team/name`, also
        `team/name@<commit>`), a deck (its digest) or generated scenes (`scenes/v2`). Raises InputError, NotFoundError.
        """
        roots = self._roots(name, who)
        graph = walk(self._catalog, roots, way, limit=limit)
        datasets = {one.artifact.name for one in graph.nodes if one.artifact.kind == "dataset"}
        seen = self._readable(sorted(datasets), who)
        stages = self._stages()
        secret = self._privacy.hidden(who)
        nodes = [
            self._node(
                one.artifact,
                one.distance,
                hidden=one.artifact.name in datasets - seen or _cell_of(one.artifact) in secret,
                stages=stages,
            )
            for one in graph.nodes
        ]
        edges = [p.LineageEdge(child=_id(e.child), parent=_id(e.parent), relation=e.relation) for e in graph.edges]
        served = self._served([one.artifact for one in graph.nodes], stages) if way == "down" else []
        places = self._privacy.workplaces(who)
        served = [one for one in served if places is None or one.cell in places]
        return p.LineageOut(
            name=name, direction=way, nodes=nodes, edges=edges, served=served, truncated=graph.truncated
        )

    def _roots(self, name: str, who: Identity) -> tuple[Artifact, ...]:
        if _DIGEST.fullmatch(name):
            found = find(self._catalog, name)
            made = walk(self._catalog, found, "down", limit=100).nodes if found else ()
            if any(_cell_of(one.artifact) in self._privacy.hidden(who) for one in made):
                found = ()
        else:
            stem, _, revision = name.partition("@")
            if "/" not in stem:
                found = find(self._catalog, f"cells/{stem}@{revision}", kind="variant")
            elif stem.startswith(f"{SCENES}/") and (
                scenes := find(self._catalog, stem, kind=SCENES, revision=revision)
            ):
                found = scenes
            elif stem.startswith("base/"):
                found = find(self._catalog, name, kind="base") or self._unused_base(name)
            else:
                self._must_see(stem, who)
                found = find(self._catalog, stem, kind="dataset", revision=revision)
        if not found:
            raise NotFoundError(f"nothing was made of {name!r}, or from it")
        return found

    def _unused_base(self, name: str) -> tuple[Artifact, ...]:
        """A base of which nothing was made yet has no lineage, but is no mistake."""
        return (Artifact("base", name, self._bases.get(name).commit),)

    def _must_see(self, dataset: str, who: Identity) -> None:
        # A dataset that somebody may not see does not exist for them.
        try:
            RepoId.parse(dataset, "dataset")
        except InvalidNameError as error:
            forms = "<cell>@<version>, base/<name>@<version>, <team>/<dataset>, or a deck's digest"
            raise InputError(f"{dataset[:100]!r} is no name of something: {forms}") from error
        if dataset not in self._readable([dataset], who):
            raise NotFoundError(f"nothing was made of {dataset!r}, or from it")

    def _node(self, one: Artifact, distance: int, *, hidden: bool, stages: _Stages) -> p.LineageNode:
        facts: dict[str, Any] = {}
        if one.kind == "dataset" and not hidden:
            facts["uploads"] = self._uploads(one)
        if one.kind == SCENES and (scenes := self._origins.scenes(one)):
            facts |= msgspec.to_builtins(scenes)
        if one.kind == "variant" and one.name in stages and not hidden:
            facts["stages"] = [{"cell": cell, "stage": stage} for cell, stage in stages[one.name]]
        name = f"a private {one.kind}" if hidden else one.name
        revision = "" if hidden else one.revision
        return p.LineageNode(id=_id(one), kind=one.kind, name=name, revision=revision, distance=distance, facts=facts)

    def _uploads(self, dataset: Artifact) -> list[dict[str, str]]:
        """Who brought what into this state of a dataset, newest first."""
        try:
            repo = RepoId.parse(dataset.name, "dataset")
            commits = self._registry.repos.history(repo, dataset.revision, MAX_UPLOADS)
        except NotFoundError:
            return []
        return [
            {
                "commit": commit.id,
                "by": commit.author,
                "message": commit.message.partition("\n")[0][:200],
                "at": timestamp(commit.created_at.timestamp()),
            }
            for commit in commits
        ]

    def _stages(self) -> _Stages:
        """Where every variant stands that robots are served by."""
        found: _Stages = {}
        for one in self._registry.stages.assignments(stages=HELD_STAGES):
            found.setdefault(str(one.variant), []).append((one.cell, one.stage))
        return found

    def _served(self, artifacts: Sequence[Artifact], stages: _Stages) -> list[p.ServedBy]:
        """The cells whose robots run one of these: by a variant's stage, or by the base where none has `fleet`."""
        robots = self._robots()
        found = [
            _served_by(cell, stage, artifact.name.partition("/")[2], robots)
            for artifact in artifacts
            if artifact.kind == "variant"
            for cell, stage in stages.get(artifact.name, ())
        ]
        newest = self._bases.newest_name()
        if any(artifact.kind == "base" and artifact.name == newest for artifact in artifacts):
            with_fleet = {cell for places in stages.values() for cell, stage in places if stage == "fleet"}
            rows = self._catalog.query("SELECT name FROM hub_cells ORDER BY name")
            found += [_served_by(row[0], "base", str(newest), robots) for row in rows if row[0] not in with_fleet]
        return sorted(found, key=lambda one: (one.cell, one.stage))

    def _robots(self) -> list[tuple[str, frozenset[str]]]:
        """Every robot's name and cells."""
        rows = self._catalog.query(
            "SELECT name, scopes FROM hub_tokens WHERE starts_with(name, 'robot:') ORDER BY name"
        )
        return [(name.removeprefix("robot:"), _cells_of(scopes)) for name, scopes in rows]


def _cell_of(one: Artifact) -> str:
    """The cell of a variant; "" for everything else."""
    return one.name.partition("/")[2].partition("@")[0] if one.kind == "variant" else ""


def _cells_of(scopes: str) -> frozenset[str]:
    return frozenset(scope.removeprefix(CELL_SCOPE) for scope in scopes.split() if scope.startswith(CELL_SCOPE))


def _served_by(cell: str, stage: str, model: str, robots: Sequence[tuple[str, frozenset[str]]]) -> p.ServedBy:
    names = [name for name, cells in robots if cell in cells or "*" in cells]
    return p.ServedBy(cell=cell, stage=stage, model=model, robots=names)


def _id(one: Artifact) -> str:
    """The same for the same artifact, without telling its name."""
    return hashlib.sha256(f"{one.kind}\0{one.name}\0{one.revision}".encode()).hexdigest()[:16]
