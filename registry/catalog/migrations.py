"""The catalog's schema as numbered, forward-only steps. A change of a table is a new step, never an edit.

No foreign keys: DuckDB checks them against row versions that a transaction has already replaced, and one
writer under one lock keeps the rules anyway. Times are TIMESTAMP in UTC (reading TIMESTAMPTZ needs `pytz`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MigrationSet:
    """The steps of one floor's tables: step n (from 1) is `steps[n - 1]`, an SQL script."""

    name: str
    steps: tuple[str, ...]


REGISTRY = MigrationSet(
    "registry",
    (
        """
        CREATE SEQUENCE repo_keys;
        CREATE TABLE repos (
            key BIGINT PRIMARY KEY DEFAULT nextval('repo_keys'),
            type VARCHAR NOT NULL,
            namespace VARCHAR NOT NULL,
            name VARCHAR NOT NULL,
            private BOOLEAN NOT NULL,
            created_at TIMESTAMP NOT NULL,
            UNIQUE (type, namespace, name)
        );
        CREATE TABLE commits (
            id VARCHAR PRIMARY KEY,
            repo BIGINT NOT NULL,
            parent VARCHAR,
            depth BIGINT NOT NULL,
            tree VARCHAR NOT NULL,
            message VARCHAR NOT NULL,
            author VARCHAR NOT NULL,
            created_at TIMESTAMP NOT NULL
        );
        CREATE INDEX commits_by_repo ON commits (repo);
        CREATE TABLE refs (
            repo BIGINT NOT NULL,
            name VARCHAR NOT NULL,
            kind VARCHAR NOT NULL,
            commit VARCHAR NOT NULL,
            PRIMARY KEY (repo, name)
        );
        CREATE INDEX refs_by_repo ON refs (repo);
        CREATE TABLE trees (
            digest VARCHAR PRIMARY KEY,
            files BIGINT NOT NULL,
            bytes BIGINT NOT NULL,
            pages VARCHAR[] NOT NULL,
            first_paths VARCHAR[] NOT NULL
        );
        CREATE TABLE tree_pages (
            digest VARCHAR PRIMARY KEY,
            paths VARCHAR[] NOT NULL,
            sha256s VARCHAR[] NOT NULL,
            sizes BIGINT[] NOT NULL
        );

        CREATE SEQUENCE artifact_keys;
        CREATE TABLE artifacts (
            key BIGINT PRIMARY KEY DEFAULT nextval('artifact_keys'),
            kind VARCHAR NOT NULL,
            name VARCHAR NOT NULL,
            revision VARCHAR NOT NULL,
            UNIQUE (kind, name, revision)
        );
        CREATE TABLE lineage (
            child BIGINT NOT NULL,
            parent BIGINT NOT NULL,
            relation VARCHAR NOT NULL,
            PRIMARY KEY (child, parent, relation)
        );
        CREATE INDEX lineage_by_child ON lineage (child);
        CREATE INDEX lineage_by_parent ON lineage (parent);

        CREATE SEQUENCE decision_numbers;
        CREATE TABLE decisions (
            id VARCHAR PRIMARY KEY,
            number BIGINT NOT NULL DEFAULT nextval('decision_numbers'),
            cell VARCHAR NOT NULL,
            record VARCHAR NOT NULL
        );
        CREATE INDEX decisions_by_cell ON decisions (cell);
        CREATE TABLE stage_variants (
            cell VARCHAR NOT NULL,
            variant VARCHAR NOT NULL,
            commit VARCHAR NOT NULL,
            stage VARCHAR NOT NULL,
            decision VARCHAR NOT NULL,
            PRIMARY KEY (cell, variant)
        );
        CREATE INDEX stage_variants_by_cell ON stage_variants (cell);
        CREATE SEQUENCE hold_numbers;
        CREATE TABLE stage_holds (
            number BIGINT PRIMARY KEY DEFAULT nextval('hold_numbers'),
            cell VARCHAR NOT NULL,
            stage VARCHAR NOT NULL,
            variant VARCHAR,
            decision VARCHAR NOT NULL,
            undone BOOLEAN NOT NULL
        );
        CREATE INDEX stage_holds_by_cell ON stage_holds (cell);
        """,
        # Branches may be named like tags (git's own rule); large files; names in any case, moves, gates.
        """
        DROP INDEX refs_by_repo;
        ALTER TABLE refs RENAME TO refs_before;
        CREATE TABLE refs (
            repo BIGINT NOT NULL,
            name VARCHAR NOT NULL,
            kind VARCHAR NOT NULL,
            commit VARCHAR NOT NULL,
            PRIMARY KEY (repo, name, kind)
        );
        INSERT INTO refs SELECT repo, name, kind, commit FROM refs_before;
        DROP TABLE refs_before;
        CREATE INDEX refs_by_repo ON refs (repo);
        ALTER TABLE tree_pages ADD COLUMN lfs BOOLEAN[];
        ALTER TABLE repos ADD COLUMN gated VARCHAR DEFAULT 'no';
        CREATE TABLE repo_handles (
            handle VARCHAR PRIMARY KEY,
            repo BIGINT NOT NULL
        );
        INSERT OR IGNORE INTO repo_handles
            SELECT lower(type || '/' || namespace || '/' || name), min(key) FROM repos GROUP BY 1;
        CREATE TABLE repo_blobs (
            sha256 VARCHAR NOT NULL,
            repo BIGINT NOT NULL,
            size BIGINT NOT NULL,
            PRIMARY KEY (sha256, repo)
        );
        CREATE INDEX repo_blobs_by_sha256 ON repo_blobs (sha256);
        INSERT OR IGNORE INTO repo_blobs
            SELECT DISTINCT unnest(p.sha256s), t.repo, unnest(p.sizes)
            FROM (SELECT c.repo, unnest(trees.pages) AS page FROM commits c JOIN trees ON trees.digest = c.tree) t
            JOIN tree_pages p ON p.digest = t.page;
        CREATE TABLE blob_git_ids (
            sha256 VARCHAR PRIMARY KEY,
            git_sha1 VARCHAR NOT NULL
        );
        """,
        # What listings show and filter by, beside the repo: `registry.repos.listing_cache` reads the cards (source ''
        # until then). Rows that no ref reaches, and since when: `registry.maintenance.row_collection`.
        """
        CREATE TABLE repo_heads (
            repo BIGINT PRIMARY KEY,
            commit VARCHAR NOT NULL,
            modified TIMESTAMP NOT NULL,
            source VARCHAR NOT NULL,
            pipeline_tag VARCHAR,
            library_name VARCHAR,
            tags VARCHAR NOT NULL,
            card VARCHAR NOT NULL
        );
        INSERT INTO repo_heads
            SELECT f.repo, f.commit, c.created_at, '', NULL, NULL, '[]', '{}'
            FROM refs f JOIN commits c ON c.id = f.commit WHERE f.name = 'main' AND f.kind = 'branch';
        CREATE TABLE repo_tags (
            repo BIGINT NOT NULL,
            tag VARCHAR NOT NULL
        );
        CREATE INDEX repo_tags_by_tag ON repo_tags (tag);
        CREATE INDEX repo_tags_by_repo ON repo_tags (repo);
        CREATE TABLE unreached (
            kind VARCHAR NOT NULL,
            id VARCHAR NOT NULL,
            since TIMESTAMP NOT NULL,
            PRIMARY KEY (kind, id)
        );
        """,
        # Which blob store this catalog belongs to: `registry.catalog.identity`.
        "CREATE TABLE store_identity (id VARCHAR NOT NULL);",
        # Bytes that were removed on purpose, whoever names them: `registry.maintenance.forget`.
        "CREATE TABLE forgotten_blobs (sha256 VARCHAR PRIMARY KEY, forgotten_at DOUBLE NOT NULL);",
    ),
)
