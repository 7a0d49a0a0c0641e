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
    from registry.blob_writer import BlobInfo, BlobWriter
    from registry.blobs import BlobStore
    from registry.canonical import JSON, canonical_json
    from registry.catalog import Catalog, Cursor
    from registry.directory import Directory, Found, Listed, Readers
    from registry.drafts import CommitDraft
    from registry.gates import EvidenceGate
    from registry.git_ids import GitIds
    from registry.lineage import Edge, Lineage, Relative
    from registry.migrations import MigrationSet
    from registry.registry import Registry
    from registry.repos import AddFile, DeleteFile, DeleteFolder, Operation, Repos
    from registry.stage_types import (
        Assignment,
        DecisionRecord,
        Gate,
        HeldStage,
        MoveRequest,
        Stage,
        Verdict,
    )
    from registry.stages import Stages
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
    "AddFile": "registry.repos",
    "Artifact": "registry.types",
    "Assignment": "registry.stage_types",
    "BlobInfo": "registry.blob_writer",
    "BlobStore": "registry.blobs",
    "BlobWriter": "registry.blob_writer",
    "Catalog": "registry.catalog",
    "Commit": "registry.types",
    "CommitDraft": "registry.drafts",
    "Cursor": "registry.catalog",
    "DecisionRecord": "registry.stage_types",
    "DeleteFile": "registry.repos",
    "DeleteFolder": "registry.repos",
    "Digest": "registry.types",
    "Directory": "registry.directory",
    "Edge": "registry.lineage",
    "EvidenceGate": "registry.gates",
    "FileEntry": "registry.types",
    "Found": "registry.directory",
    "Gate": "registry.stage_types",
    "GitIds": "registry.git_ids",
    "HeldStage": "registry.stage_types",
    "JSON": "registry.canonical",
    "Lineage": "registry.lineage",
    "Listed": "registry.directory",
    "MigrationSet": "registry.migrations",
    "MoveRequest": "registry.stage_types",
    "Operation": "registry.repos",
    "Readers": "registry.directory",
    "Ref": "registry.types",
    "Registry": "registry.registry",
    "Relative": "registry.lineage",
    "RepoId": "registry.types",
    "RepoInfo": "registry.types",
    "Repos": "registry.repos",
    "Stage": "registry.stage_types",
    "Stages": "registry.stages",
    "UNSET": "registry.types",
    "Variant": "registry.types",
    "Verdict": "registry.stage_types",
    "canonical_json": "registry.canonical",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever is exported
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
