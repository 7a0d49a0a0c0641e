"""What becomes of stages when a repo or a tag is to be deleted: refused while robots need it, else they go with it."""

from __future__ import annotations

from registry.catalog.cursor import Cursor
from registry.errors import RefProtectedError, RepoInUseError
from registry.types import RepoId


def keep_served(tx: Cursor, repo: RepoId) -> None:
    """Refuse to delete a repo that robots are served from. Raises RepoInUseError."""
    if repo.type != "model":
        return
    rows = tx.execute(
        "SELECT cell, stage FROM stage_variants "
        "WHERE starts_with(variant, ?) AND stage IN ('station', 'beta', 'fleet')",
        [f"{repo}@"],
    ).fetchall()
    if rows:
        places = ", ".join(f"{cell} ({stage})" for cell, stage in sorted(rows))
        raise RepoInUseError(repo, f"it serves {places}")


def forget_variants(tx: Cursor, repo: RepoId, _key: int) -> None:
    """Variants of a repo that is deleted have no stage any more, and nobody is given back to them. Decisions stay."""
    if repo.type == "model":
        for table in ("stage_variants", "stage_holds"):
            tx.execute(f"DELETE FROM {table} WHERE starts_with(variant, ?)", [f"{repo}@"])  # noqa: S608  # one of two


def keep_tag(tx: Cursor, repo: RepoId, tag: str) -> None:
    """Refuse to take the name away from a variant that has a stage: decisions and robots name it. Raises
    RefProtectedError."""
    if repo.type != "model":
        return
    row = tx.execute(
        "SELECT cell, stage FROM stage_variants WHERE variant = ? AND stage <> 'archived'", [f"{repo}@{tag}"]
    ).fetchone()
    if row:
        raise RefProtectedError(repo, tag, f"it names the {row[1]} variant of {row[0]}")
