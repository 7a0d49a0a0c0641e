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
from typing import TYPE_CHECKING

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


# Imported when first asked for: who needs only the errors, as the command line does, does not wait for DuckDB.
_PLACES = {
    "registry.blob_writer": (
        "BlobInfo",
        "BlobWriter",
    ),
    "registry.blobs": ("BlobStore",),
    "registry.canonical": (
        "JSON",
        "canonical_json",
    ),
    "registry.catalog": (
        "Catalog",
        "Cursor",
    ),
    "registry.directory": (
        "Directory",
        "Found",
        "Listed",
        "Readers",
    ),
    "registry.drafts": ("CommitDraft",),
    "registry.gates": ("EvidenceGate",),
    "registry.git_ids": ("GitIds",),
    "registry.lineage": (
        "Edge",
        "Lineage",
        "Relative",
    ),
    "registry.migrations": ("MigrationSet",),
    "registry.registry": ("Registry",),
    "registry.repos": (
        "AddFile",
        "DeleteFile",
        "DeleteFolder",
        "Operation",
        "Repos",
    ),
    "registry.stage_types": (
        "Assignment",
        "DecisionRecord",
        "Gate",
        "HeldStage",
        "MoveRequest",
        "Stage",
        "Verdict",
    ),
    "registry.stages": ("Stages",),
    "registry.types": (
        "UNSET",
        "Artifact",
        "Commit",
        "Digest",
        "FileEntry",
        "Ref",
        "RepoId",
        "RepoInfo",
        "Variant",
    ),
}
_PLACE_OF = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(_PLACE_OF[name]), name)
    globals()[name] = found
    return found
