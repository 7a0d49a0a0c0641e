"""From the files of a training to a published base: its version, its lineage with the credits, its signature."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

import msgspec

from finetune.growth_plan import GrowthPlan
from hub.errors import InputError
from hub.models.base_lineage import BaseLineage
from hub.models.bases import FILES, REQUIRED, UNIVERSAL, Bases, next_version, versions
from hub.models.signing import Vouching
from registry.errors import LineageCycleError, NotFoundError
from registry.lineage.lineage import Edge
from registry.registry import Registry
from registry.types import Artifact, FileEntry

log = logging.getLogger("parcelhub.growth")


class Publisher:
    """Publishes bases that growths made; each once, whatever is killed when. Thread-safe."""

    def __init__(self, registry: Registry, bases: Bases, origins: BaseLineage, vouching: Vouching) -> None:
        self._registry, self._bases, self._origins, self._vouching = registry, bases, origins, vouching
        self._lock = threading.Lock()

    def publish(self, plan: GrowthPlan, start: str, files: Mapping[str, str]) -> str:
        """The name of the base (`base/universal@v2`). Raises InputError for files that are no base, and
        BlobNotFoundError for one that was not uploaded."""
        strange = sorted(set(files) - set(FILES))
        missing = [name for name in REQUIRED if name not in files]
        if strange or missing:
            raise InputError(f"a base has {', '.join(FILES)}; {', '.join(strange or missing)} is wrong")
        entries = [FileEntry(name, digest, self._registry.blobs.size(digest)) for name, digest in files.items()]
        message = f"The base of the growth {plan.run}"
        with self._lock:
            repos = self._registry.repos
            found = next(
                (ref for _, ref in versions(repos.refs(UNIVERSAL)) if repos.resolve(UNIVERSAL, ref.commit).message
                 == message), None,
            )  # fmt: skip
            if found is None:
                version = next_version(repos.refs(UNIVERSAL))
                repos.commit(UNIVERSAL, entries, message=message, author="the growth", tags=[version])
            else:
                version = found.name
            name = f"{UNIVERSAL}@{version}"
            self._origins.catch_up()
            self._credit(name, start, plan)
            self._vouching.sign_base(name, run=f"growth {plan.run}")
        log.info("published %s, grown from %s", name, start)
        return name

    def _credit(self, name: str, start: str, plan: GrowthPlan) -> None:
        """The deck and each contribution, as what the base was made of."""
        made = self._bases.get(name)
        node = Artifact("base", made.name, made.commit)
        document = msgspec.json.encode(plan, order="deterministic")
        deck = self._registry.blobs.put_bytes(document).sha256
        edges = [Edge(node, Artifact("deck", deck, deck), "deck")]
        for one in plan.contributions:
            edges.append(Edge(node, Artifact("dataset", one.dataset, one.commit), "dataset"))
        try:
            older = self._bases.get(start)
            edges.append(Edge(node, Artifact("base", older.name, older.commit), "base"))
            self._registry.lineage.record(edges)
        except (LineageCycleError, NotFoundError) as error:
            log.warning("no lineage of %s: %s", name, error)
