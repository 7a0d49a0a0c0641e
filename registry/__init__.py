"""What is stored and what may be promoted. Knows no HTTP and no torch; imports none of the other floors.

`Registry.open(root)` gives all of it: `blobs` (bytes by sha256), `repos` (commits, branches, tags), `directory` (repos
by name, their settings, search), `git_ids` (git's names for blobs), `lineage` (what was made from what), `stages`
(which variant serves a cell, and every decision about it), `policies` (what a move needs), `statements` and `keys`
(who vouches for what is published) and `catalog` (the DuckDB file they share, where other
floors register their own tables with a `MigrationSet`). `examine` finds damage, `collect` removes garbage,
`registry.backup` makes and restores backups. Errors: `registry.errors`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from registry.blobs.blobs import BlobStore
    from registry.blobs.writer import BlobInfo, BlobWriter
    from registry.canonical import JSON, canonical_json
    from registry.catalog.catalog import Catalog
    from registry.catalog.cursor import Cursor
    from registry.catalog.migrations import MigrationSet
    from registry.lineage.lineage import Edge, Lineage, Relative
    from registry.promotion.gates import EvidenceGate
    from registry.promotion.stages import Stages
    from registry.registry import Registry
    from registry.repos.directory import Directory, Found, Listed, Readers
    from registry.repos.git_ids import GitIds
    from registry.repos.operations import CommitDraft
    from registry.repos.repos import AddFile, DeleteFile, DeleteFolder, Operation, Repos
    from registry.stage_types import (
        Assignment,
        DecisionRecord,
        Gate,
        HeldStage,
        MoveRequest,
        Stage,
        Verdict,
    )
    from registry.types import UNSET, Artifact, Commit, Digest, FileEntry, Ref, RepoId, RepoInfo, Variant

__all__ = [
    "JSON",
    "UNSET",
    "AddFile",
    "Artifact",
    "Assignment",
    "BlobInfo",
    "BlobStore",
    "BlobWriter",
    "Catalog",
    "Commit",
    "CommitDraft",
    "Cursor",
    "DecisionRecord",
    "DeleteFile",
    "DeleteFolder",
    "Digest",
    "Directory",
    "Edge",
    "EvidenceGate",
    "FileEntry",
    "Found",
    "Gate",
    "GitIds",
    "HeldStage",
    "Lineage",
    "Listed",
    "MigrationSet",
    "MoveRequest",
    "Operation",
    "Readers",
    "Ref",
    "Registry",
    "Relative",
    "RepoId",
    "RepoInfo",
    "Repos",
    "Stage",
    "Stages",
    "Variant",
    "Verdict",
    "canonical_json",
]

# Robots' servers use small parts of this floor, and need neither the database nor the object store for them.
_HOMES: Final = {
    "AddFile": "registry.repos.repos",
    "Artifact": "registry.types",
    "Assignment": "registry.stage_types",
    "BlobInfo": "registry.blobs.writer",
    "BlobStore": "registry.blobs.blobs",
    "BlobWriter": "registry.blobs.writer",
    "Catalog": "registry.catalog.catalog",
    "Commit": "registry.types",
    "CommitDraft": "registry.repos.operations",
    "Cursor": "registry.catalog.catalog",
    "DecisionRecord": "registry.stage_types",
    "DeleteFile": "registry.repos.repos",
    "DeleteFolder": "registry.repos.repos",
    "Digest": "registry.types",
    "Directory": "registry.repos.directory",
    "Edge": "registry.lineage.lineage",
    "EvidenceGate": "registry.promotion.gates",
    "FileEntry": "registry.types",
    "Found": "registry.repos.directory",
    "Gate": "registry.stage_types",
    "GitIds": "registry.repos.git_ids",
    "HeldStage": "registry.stage_types",
    "JSON": "registry.canonical",
    "Lineage": "registry.lineage.lineage",
    "Listed": "registry.repos.directory",
    "MigrationSet": "registry.catalog.migrations",
    "MoveRequest": "registry.stage_types",
    "Operation": "registry.repos.repos",
    "Readers": "registry.repos.directory",
    "Ref": "registry.types",
    "Registry": "registry.registry",
    "Relative": "registry.lineage.lineage",
    "RepoId": "registry.types",
    "RepoInfo": "registry.types",
    "Repos": "registry.repos.repos",
    "Stage": "registry.stage_types",
    "Stages": "registry.promotion.stages",
    "UNSET": "registry.types",
    "Variant": "registry.types",
    "Verdict": "registry.stage_types",
    "canonical_json": "registry.canonical",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever is exported
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
