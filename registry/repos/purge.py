"""Taking files out of a repo's whole history, as if they had never been there."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog, from_db
from registry.errors import RepoInUseError
from registry.repos import listing_cache, trees
from registry.repos import repo_rows as rows_
from registry.repos.repos import MAIN, Repos
from registry.types import Digest, FileEntry, RepoId


def purge(catalog: Catalog, repos: Repos, blobs: BlobStore, repo: RepoId, digests: Collection[Digest]) -> int:
    """Write the repo's history anew without these blobs; refs follow. Returns how many commits have new ids.

    The bytes themselves stay in the store, for other repos may share them; this repo proves possession of them no
    more. Evidence names commits by their ids, so a repo that has variants in stages or that lineage names is left
    alone. Raises RepoNotFoundError, RepoInUseError, and what the repo's guards raise.
    """
    gone = set(digests)
    with catalog.write() as tx:
        key = rows_.key_of(tx, repo)
        for delete_guard in repos.delete_guards:
            delete_guard(tx, repo)
        refs = tx.execute("SELECT name, kind, commit FROM refs WHERE repo = ?", [key]).fetchall()
        for name, kind, _ in refs:
            for tag_guard in repos.tag_guards if kind == "tag" else ():
                tag_guard(tx, repo, name)
        if tx.execute(
            "SELECT 1 FROM artifacts WHERE revision IN (SELECT id FROM commits WHERE repo = ?) LIMIT 1", [key]
        ).fetchone():
            raise RepoInUseError(repo, "lineage names its commits")
        rows = tx.execute(
            f"SELECT {rows_.COMMIT} FROM commits WHERE repo = ? ORDER BY depth",  # noqa: S608  # constants
            [key],
        ).fetchall()
        renamed: dict[Digest, Digest] = {}
        kept_files: dict[Digest, Sequence[FileEntry]] = {}
        main: Digest | None = None
        for old in (rows_.commit_of_row(repo, row) for row in rows):
            kept = [entry for entry in trees.load(catalog, old.tree) if entry.sha256 not in gone]
            tree = trees.build(kept)
            parent = renamed.get(old.parent, old.parent) if old.parent else None
            if tree.digest == old.tree and parent == old.parent:
                continue
            new = rows_.new_commit(repo, parent, tree.digest, old.message, old.author, at=old.created_at)
            trees.store(tx, [tree])
            kept_files[tree.digest] = kept
            depth = tx.execute("SELECT depth FROM commits WHERE id = ?", [old.id]).fetchone()
            rows_.insert_commits(tx, key, [new], depth=(depth[0] if depth else 1) - 1)
            renamed[old.id] = new.id
        for name, kind, commit in refs:
            if commit in renamed:
                tx.execute(
                    "UPDATE refs SET commit = ? WHERE repo = ? AND name = ? AND kind = ?",
                    [renamed[commit], key, name, kind],
                )
                if (name, kind) == (MAIN, "branch"):
                    main = renamed[commit]
        if main is not None:
            row = tx.execute("SELECT tree, created_at FROM commits WHERE id = ?", [main]).fetchone()
            files = kept_files[row[0]] if row else ()
            card = listing_cache.read_card(blobs, files)
            if row:
                listing_cache.put(
                    tx, key, listing_cache.Head(main, from_db(row[1]), listing_cache.source_of(files), card)
                )
        tx.execute("DELETE FROM commits WHERE id IN (SELECT unnest(?::VARCHAR[]))", [list(renamed)])
        tx.execute(
            "DELETE FROM repo_blobs WHERE repo = ? AND sha256 IN (SELECT unnest(?::VARCHAR[]))", [key, sorted(gone)]
        )
    return len(renamed)
