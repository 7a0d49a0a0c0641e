"""What the hub puts its name to: published bases and variants, each with a signed statement of what it was made from.

The hub signs what it published itself: the base that it was started with, and variants that jobs of its own made. What
an operator brings in by hand is signed at their word (`parcelhub model sign`). Nothing is served without a statement.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from hub.errors import InputError
from hub.models.bases import WEIGHTS, Bases
from hub.models.variants import Document, Variants, repo_of
from hub.schemas import core as s
from registry.canonical import JSON
from registry.errors import EntryNotFoundError, NotFoundError
from registry.lineage.lineage import Lineage
from registry.promotion.stages import Stages
from registry.provenance import Material, Origin, Statement, Statements
from registry.repos.repos import Repos
from registry.types import Artifact, Digest, RepoId

log = logging.getLogger("parcelhub.vouching")

PROGRAMS = ("parcelhub", "torch", "transformers", "peft", "safetensors")


class Vouching:
    """Makes statements, and finds those of names that people use."""

    def __init__(
        self, statements: Statements, repos: Repos, bases: Bases, variants: Variants, lineage: Lineage
    ) -> None:
        self._statements = statements
        self._repos = repos
        self._bases = bases
        self._variants = variants
        self._lineage = lineage

    def shipped_base(self, base: s.Base | None) -> None:
        """Sign the base that this hub was started with, unless it has a statement."""
        if base is not None and not self._statements.has(base.commit):
            self.sign_base(base.name, run="shipped")

    def sign_base(self, name: str, *, run: str) -> Statement:
        """Sign `base/<name>@<version>`. Raises UnknownBaseError, StatementError."""
        base = self._bases.get(name)
        repo, _, tag = base.name.partition("@")
        saw = self._lineage.parents(Artifact("base", base.name, base.commit))
        materials = [Material(edge.relation, self._told(edge.parent), edge.parent.revision) for edge in saw]
        return self._statements.publish(RepoId.parse(repo), tag, Origin("base", materials, run, _programs()))

    def _told(self, parent: Artifact) -> str:
        """A parent's name in a statement about a base, which everybody reads: private datasets stay unnamed."""
        if parent.kind != "dataset":
            return parent.name
        try:
            info = self._repos.get(RepoId.parse(parent.name, "dataset"))
        except NotFoundError:
            return "a dataset that is gone"
        return "a private dataset" if info.private or info.gated != "no" else parent.name

    def sign_variant(self, cell: str, tag: str, commit: Digest, *, run: str | None, dataset: str = "") -> Statement:
        """Sign `<cell>@<tag>`; `dataset` reads `namespace/name@<commit>`. Raises StatementError, InputError."""
        document = self._variants.document(cell, commit)
        materials = list(self._materials(document, dataset))
        asked: dict[str, JSON] = {"labels": document.labels, "rank": document.rank}
        return self._statements.publish(repo_of(cell), tag, Origin("variant", materials, run, _programs(), asked))

    def sign(self, name: str, *, by: str) -> Statement:
        """Sign a base or a variant at an operator's word. Raises UnknownBaseError, UnknownVariantError."""
        if "/" in name:
            return self.sign_base(name, run=f"signed by {by}")
        cell, _, tag = name.partition("@")
        one = self._variants.get(cell, tag)
        return self.sign_variant(cell, tag, one.commit, run=f"signed by {by}", dataset=one.dataset)

    def statement(self, name: str) -> Statement:
        """The statement about `<cell>@<version>` or `base/<name>@<version>`, if it is believed.

        Raises UnknownBaseError, UnknownVariantError, StatementError.
        """
        if "/" in name:
            base = self._bases.get(name)
            return self._statements.require(RepoId.parse(name.partition("@")[0]), base.commit)
        cell, _, tag = name.partition("@")
        return self._statements.require(repo_of(cell), self._variants.get(cell, tag).commit)

    def adopt(self, stages: Stages) -> None:
        """Sign everything that was published before this data folder had a key: called once, when the key is made."""
        for base in self._bases.all():
            self.sign_base(base.name, run="adopted")
        for standing in stages.assignments():
            cell, tag = standing.cell, standing.variant.version
            try:
                one = self._variants.get(cell, tag)
                self.sign_variant(cell, tag, standing.commit, run=one.job or "adopted", dataset=one.dataset)
            except (InputError, NotFoundError) as error:
                log.warning("not signed: %s@%s: %s", cell, tag, error)

    def _materials(self, document: Document, dataset: str) -> Iterable[Material]:
        base = document.base
        yield Material("base", str(base), base.commit)
        try:
            weights = self._repos.entry(RepoId.parse(base.repo), base.commit, WEIGHTS)
            yield Material("base-weights", f"{base}/{WEIGHTS}", weights.sha256)
        except (NotFoundError, EntryNotFoundError):
            log.warning("the base %s of a variant is not stored here", base)
        yield Material("deck", document.deck, document.deck)
        name, _, commit = dataset.partition("@")
        if commit:
            yield Material("dataset", name, commit)


@cache
def _programs() -> dict[str, str]:
    """The versions of the programs here that make and check models."""
    found = {}
    for name in PROGRAMS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
