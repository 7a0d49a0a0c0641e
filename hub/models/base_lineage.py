"""What a base saw: scenes of the generator, datasets that were offered, the base it went on from; as its card says.

`parcelhub base train` writes it into the card's metadata, under `parcelhub`:

    parcelhub:
      scenes: {generator: 2, seed: 3, count: 46496}
      datasets: [acme/frames@<commit>]
      start: <sha256 of the weights it went on from>

The hub reads it when it publishes or meets a base, and records edges: base -> scenes, base -> dataset, base -> base.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from hub.errors import UNREADABLE
from hub.models.bases import Bases
from hub.schemas import core as s
from registry.canonical import canonical_json
from registry.errors import NotFoundError, RegistryError
from registry.lineage.lineage import Edge
from registry.registry import Registry
from registry.repos.cards import MAX_README, README, CardError, read_head
from registry.types import Artifact, RepoId

log = logging.getLogger("parcelhub.bases")

SCENES: Final = "scenes"
"""The kind of the lineage's nodes of generated scenes; their names read `scenes/v2`, by the generator's version."""
_WORDS: Final = re.compile(
    r"([\d,]{1,20}) scenes of the project's own generator \(version (\d{1,6}), seed (\d{1,18})\)"
)
_FEW: Final = 1000
Number = Annotated[int, Meta(ge=0, le=2**53)]


class Scenes(Struct, frozen=True, forbid_unknown_fields=True):
    """Generated scenes: the generator's version, its seed, and how many were drawn."""

    generator: Number
    seed: Number
    count: Number


class Saw(Struct, frozen=True):
    """What a card says that its base saw; `datasets` read `team/name@<commit>`, `start` is a sha256 of weights."""

    scenes: Scenes | None = None
    datasets: Annotated[tuple[str, ...], Meta(max_length=_FEW)] = ()
    start: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")] | None = None


def saw_of(readme: str) -> Saw:
    """What a README says, also one from before there was metadata for it; what makes no sense says nothing."""
    try:
        said = read_head(readme).get("parcelhub")
        if said is not None:
            return msgspec.convert(said, Saw)
    except (CardError, msgspec.ValidationError) as error:
        log.warning("the card of a base does not say what it saw: %s", error)
        return Saw()
    found = _WORDS.search(readme)
    return Saw(Scenes(int(found[2]), int(found[3]), int(found[1].replace(",", "")))) if found else Saw()


class BaseLineage:
    """Records what bases saw. Use from any number of threads."""

    def __init__(self, registry: Registry, bases: Bases) -> None:
        self._registry = registry
        self._bases = bases

    def catch_up(self) -> None:
        """Record it for every base of which nothing is recorded yet."""
        bases = self._bases.all()
        for base in bases:
            node = Artifact("base", base.name, base.commit)
            if self._registry.lineage.parents(node):
                continue
            try:
                self._registry.lineage.record(self._edges(base, bases))
            except RegistryError as error:
                log.warning("no lineage of %s: %s", base.name, error)

    def scenes(self, node: Artifact) -> Scenes | None:
        """What a node of scenes stands for."""
        try:
            return msgspec.json.decode(self._registry.blobs.read(node.revision), type=Scenes)
        except (RegistryError, *UNREADABLE):
            return None

    def _edges(self, base: s.Base, bases: list[s.Base]) -> Iterator[Edge]:
        repo = RepoId.parse(base.name.partition("@")[0])
        node = Artifact("base", base.name, base.commit)
        saw = self._saw(repo, base.commit)
        if saw.scenes is not None:
            # A document, as a deck is one: its digest is the node's exact state.
            document = self._registry.blobs.put_bytes(canonical_json(msgspec.to_builtins(saw.scenes)))
            yield Edge(node, Artifact(SCENES, f"{SCENES}/v{saw.scenes.generator}", document.sha256), SCENES)
        for text in saw.datasets:
            name, _, revision = text.partition("@")
            try:
                commit = self._registry.repos.resolve(RepoId.parse(name, "dataset"), revision)
            except RegistryError as error:  # of another hub, or a name that is none
                log.warning("%s saw %r, which is not here: %s", base.name, text[:200], error)
                continue
            yield Edge(node, Artifact("dataset", name, commit.id), "dataset")
        if saw.start is not None:
            older = [each for each in bases if each.weights == saw.start and each.commit != base.commit]
            for each in older[:1]:
                yield Edge(node, Artifact("base", each.name, each.commit), "base")

    def _saw(self, repo: RepoId, commit: str) -> Saw:
        try:
            entry = self._registry.repos.entry(repo, commit, README)
        except NotFoundError:
            return Saw()
        if entry.size > MAX_README:
            return Saw()
        return saw_of(self._registry.blobs.read(entry.sha256).decode("utf-8", "replace"))
