"""`model verify`: is what robots run what was published, decided and signed? Everything is checked again from bytes."""

from __future__ import annotations

import hashlib

from hub.models.bases import Bases
from hub.models.cells import Cells
from hub.models.variants import Variants, repo_of
from hub.rollout.serving_folder import ServingFolder
from hub.schemas import provenance as p
from registry.backup.audit import Finding, audit_cell
from registry.blobs.blobs import BlobStore
from registry.errors import BlobNotFoundError, KeyRingError, NotFoundError, StatementError
from registry.registry import Registry
from registry.types import Digest, RepoId


class Verification:
    """Checks a base, a variant, or a whole cell. Nothing is changed; what differs is a finding."""

    def __init__(
        self, registry: Registry, bases: Bases, cells: Cells, variants: Variants, folder: ServingFolder
    ) -> None:
        self._registry = registry
        self._bases = bases
        self._cells = cells
        self._variants = variants
        self._folder = folder

    def of(self, name: str) -> p.Verification:
        """Check `<cell>`, `<cell>@<version>` or `base/<name>@<version>`.

        Of a cell every variant is checked, and of each the base that it is on; the decisions are the cell's in both
        cases. Raises UnknownBaseError, UnknownCellError, UnknownVariantError.
        """
        check = _Check(self._registry)
        if "/" in name:
            base = self._bases.get(name)
            check.version(name, RepoId.parse(name.partition("@")[0]), base.commit)
            return check.result(name)
        cell, _, version = name.partition("@")
        self._cells.get(cell)
        wanted = [self._variants.get(cell, version)] if version else self._variants.all(cell)
        for one in wanted:
            check.version(one.name, repo_of(cell), one.commit)
        for base_name in sorted({one.base for one in wanted}):
            try:
                base = self._bases.get(base_name)
            except Exception as error:  # whatever is wrong with a base is a finding
                check.found(base_name, "base-missing", str(error))
            else:
                check.version(base_name, RepoId.parse(base_name.partition("@")[0]), base.commit)
        audit = audit_cell(self._registry, cell, self._registry.keys)
        for finding in audit.findings:
            check.findings.append(finding)
        check.notes += audit.notes
        check.decisions = audit.decisions
        for refused, reason in self._folder.refused.items():
            if refused.partition("@")[0] == cell:
                check.found(refused, "not-served", reason)
        self._check_table(check, cell)
        return check.result(name)

    def _check_table(self, check: _Check, cell: str) -> None:
        """What the robots' table says of the cell against the stages."""
        try:
            table = self._folder.read()
        except OSError:
            return  # nothing is served yet
        routed = table.get("cells", {}).get(cell, {})
        held = {
            stage: None if variant is None else f"{variant.repo.name}@{variant.version}"
            for stage, variant in self._registry.stages.current(cell).items()
        }
        for stage, place in self._folder.placement.of(held).items():
            if place.state == "promoted, not in place":
                check.found(place.variant, "not-in-place", f"promoted to {stage}, does not answer: {place.reason}")
        for stage, variant in self._registry.stages.current(cell).items():
            wanted = None if variant is None else f"{variant.repo.name}@{variant.version}"
            if routed.get(stage) != wanted and wanted not in self._folder.refused:
                said = (
                    f"the robots' table has {routed.get(stage) or 'the base'} at {stage}, the stages {wanted or 'none'}"
                )
                check.found(cell, "routing-differs", said)


class _Check:
    """What is counted and found on the way."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._seen: dict[Digest, str | None] = {}
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.statements = 0
        self.decisions = 0

    def version(self, name: str, repo: RepoId, commit: Digest) -> None:
        """The statement about a version, and the bytes of its files."""
        try:
            self._registry.statements.require(repo, commit)
            self.statements += 1
        except (StatementError, KeyRingError, NotFoundError) as error:
            self.found(name, "not-vouched-for", str(error))
        try:
            files = self._registry.repos.tree(repo, commit)
        except NotFoundError as error:
            self.found(name, "missing", str(error))
            return
        for entry in files:
            if entry.sha256 not in self._seen:
                self._seen[entry.sha256] = _damage(self._registry.blobs, entry.sha256)
            if said := self._seen[entry.sha256]:
                self.found(f"{name}/{entry.path}", "file-differs", said)

    def found(self, subject: str, problem: str, detail: str) -> None:
        self.findings.append(Finding(subject, problem, detail))

    def result(self, name: str) -> p.Verification:
        return p.Verification(
            name=name,
            ok=not self.findings,
            decisions=self.decisions,
            files=len(self._seen),
            statements=self.statements,
            findings=[p.FindingOut(subject=f.subject, problem=f.problem, detail=f.detail) for f in self.findings],
            notes=self.notes,
        )


def _damage(blobs: BlobStore, sha256: Digest) -> str | None:
    """What is wrong with a stored blob; None if nothing is. A chunk of it at a time is in memory."""
    digest = hashlib.sha256()
    try:
        for chunk in blobs.iter_range(sha256):
            digest.update(chunk)
    except BlobNotFoundError:
        return "its bytes are not in the store"
    return None if digest.hexdigest() == sha256 else "its bytes were changed: they have another digest"
