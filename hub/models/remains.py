"""What hangs on a cell or a repository and must not outlive it: another one of the same name would inherit it.

Everything here runs inside the transaction that deletes, so that nothing is left behind and nothing goes alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from hub.accounts.tokens import CELL_SCOPE, ROBOT_SCOPE
from hub.errors import InputError, InUseError, UnknownCellError
from hub.schemas.jobs import JobSpec, read_spec
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import RepoNotFoundError
from registry.types import RepoId

_CELLS = "cells"
_STANDING = (
    "SELECT v.cell, v.version FROM hub_variants v JOIN stage_variants s"
    " ON s.cell = v.cell AND s.variant = 'cells/' || v.cell || '@' || v.version"
    " WHERE s.stage <> 'archived' AND json_extract_string(v.document, '$.base.repo') = ?"
)
_OF_REPO = ("hub_discussions", "hub_discussion_events", "hub_readers", "hub_datasets", "hub_image_sets")
_OF_CELL = ("rollout_lines", "rollout_shares", "rollout_trials", "approvals", "hub_cell_sources")


def keep_for_jobs(tx: Cursor, repo: RepoId) -> None:
    """A guard of deletions and renamings: refuses while a queued or running job needs the repository. InUseError."""
    wanted = f"{repo.type}/{repo.namespace}/{repo.name}"
    for job, spec in tx.execute("SELECT id, spec FROM hub_jobs WHERE state IN ('queued', 'running')").fetchall():
        if wanted in read_spec(msgspec.json.decode(spec)).keeps():
            raise InUseError(f"the {repo.type} {repo} is needed by the job {job}; cancel it first")


def keep_bases(tx: Cursor, repo: RepoId) -> None:
    """A guard of deletions and renamings: refuses for a base that variants are made on. InUseError."""
    _keep_base(tx, repo, "", [])


def keep_base_version(tx: Cursor, repo: RepoId, tag: str) -> None:
    """As `keep_bases`, for one version of a base."""
    _keep_base(tx, repo, " AND json_extract_string(v.document, '$.base.revision') = ?", [tag])


def _keep_base(tx: Cursor, repo: RepoId, only: str, values: list[str]) -> None:
    if repo.type != "model" or repo.namespace == _CELLS:
        return
    row = tx.execute(f"{_STANDING}{only} LIMIT 1", [f"{repo.namespace}/{repo.name}", *values]).fetchone()
    if row is not None:
        what = f"{repo}@{values[0]}" if values else str(repo)
        raise InUseError(f"the variant {row[0]}@{row[1]} is made on {what}; archive it first")


def forget_repo(tx: Cursor, repo: RepoId, key: int) -> None:
    """Take away what the hub knows of a repository that is deleted: discussions, readers, pictures, uploads."""
    tx.execute("DELETE FROM hub_images WHERE set_number IN (SELECT number FROM hub_image_sets WHERE repo = ?)", [key])
    for table in _OF_REPO:
        tx.execute(f"DELETE FROM {table} WHERE repo = ?", [key])  # noqa: S608  # one of five names
    if repo.type == "model" and repo.namespace == _CELLS:
        # Its variants' stages go with it (`registry.promotion.stages`): without them the cell is one that has no
        # variant.
        tx.execute("DELETE FROM hub_variants WHERE cell = ?", [repo.name])
        tx.execute("DELETE FROM approvals WHERE cell = ?", [repo.name])
    if repo.type == "dataset":
        tx.execute("DELETE FROM hub_uploads WHERE dataset = ?", [str(repo)])


def forget_cell(tx: Cursor, cell: str) -> None:
    """Take away plans, trials and approvals of a cell, and its robots' right to it; a robot without a cell goes.

    What its picks did stays on record until its time is over, and counts for no cell of this name made later.
    """
    for table in _OF_CELL:
        tx.execute(f"DELETE FROM {table} WHERE cell = ?", [cell])  # noqa: S608  # one of five names
    scope = CELL_SCOPE + cell
    for digest, scopes in tx.execute("SELECT sha256, scopes FROM hub_tokens").fetchall():
        held = set(scopes.split())
        if scope not in held:
            continue
        left = held - {scope}
        if ROBOT_SCOPE in left and not any(one.startswith(CELL_SCOPE) for one in left):
            tx.execute("DELETE FROM hub_tokens WHERE sha256 = ?", [digest])
        else:
            tx.execute("UPDATE hub_tokens SET scopes = ? WHERE sha256 = ?", [" ".join(sorted(left)), digest])
    tx.execute(
        "INSERT INTO rollout_forgotten VALUES (?, ?) ON CONFLICT DO UPDATE SET before = excluded.before",
        [cell, time.time()],
    )


def begin_cell(tx: Cursor, cell: str, now: float) -> None:
    """A cell of a name that there was before begins now, whatever the clock said when the other one went."""
    tx.execute("UPDATE rollout_forgotten SET before = least(before, ?) WHERE cell = ?", [now, cell])


def forgotten_cells(catalog: Catalog) -> Mapping[str, float]:
    """Cells that were deleted, and when (epoch seconds): what was recorded before counts for no cell."""
    return dict(catalog.query("SELECT cell, before FROM rollout_forgotten"))


def require_parts(tx: Cursor, spec: JobSpec, made_at: float) -> None:
    """Raises unless a job's cell and dataset are there, the cell since before the job was made (epoch seconds).

    UnknownCellError, RepoNotFoundError, InputError.
    """
    if spec.cell:
        _require_cell(tx, spec, made_at)
    if not spec.dataset:
        return
    repo = RepoId.parse(spec.dataset, "dataset")
    found = tx.execute(
        "SELECT 1 FROM repos WHERE type = 'dataset' AND namespace = ? AND name = ?", [repo.namespace, repo.name]
    ).fetchone()
    if found is None:
        raise RepoNotFoundError(repo)


def _require_cell(tx: Cursor, spec: JobSpec, made_at: float) -> None:
    row = tx.execute("SELECT created_at FROM hub_cells WHERE name = ?", [spec.cell]).fetchone()
    if row is None:
        raise UnknownCellError(f"there is no cell {spec.cell!r} any more")
    if row[0] > made_at:
        raise InputError(f"the cell {spec.cell!r} is another one than the job was made for; ask for a new one")
