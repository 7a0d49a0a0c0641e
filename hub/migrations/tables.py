"""The hub's own tables in the registry's catalog: cells, tokens, jobs and what happened to them."""

from __future__ import annotations

from datetime import UTC, datetime

from hub.migrations.tables_jobs import JOB_KINDS
from hub.migrations.tables_service import SERVICE_TABLES
from registry.catalog.migrations import MigrationSet

HUB = MigrationSet(
    "hub",
    (
        """
    CREATE TABLE hub_cells (
        name VARCHAR PRIMARY KEY,
        description VARCHAR NOT NULL,
        created_at DOUBLE NOT NULL
    );
    CREATE TABLE hub_tokens (
        sha256 VARCHAR PRIMARY KEY,
        name VARCHAR NOT NULL,
        scopes VARCHAR NOT NULL,
        created_at DOUBLE NOT NULL,
        expires_at DOUBLE
    );
    CREATE TABLE hub_jobs (
        id VARCHAR PRIMARY KEY,
        state VARCHAR NOT NULL,
        spec VARCHAR NOT NULL,
        attempt INTEGER NOT NULL,
        crashes INTEGER NOT NULL,
        max_attempts INTEGER NOT NULL,
        cancel_requested BOOLEAN NOT NULL,
        created_by VARCHAR NOT NULL,
        created_at DOUBLE NOT NULL,
        started_at DOUBLE,
        finished_at DOUBLE,
        worker VARCHAR,
        lease_until DOUBLE,
        error VARCHAR,
        version VARCHAR,
        metrics VARCHAR NOT NULL
    );
    CREATE TABLE hub_job_events (
        job VARCHAR NOT NULL,
        seq INTEGER NOT NULL,
        happened_at DOUBLE NOT NULL,
        kind VARCHAR NOT NULL,
        data VARCHAR NOT NULL
    );
    """,
        """
    ALTER TABLE hub_tokens ADD COLUMN user_name VARCHAR;
    CREATE TABLE hub_users (
        name VARCHAR PRIMARY KEY,
        handle VARCHAR NOT NULL UNIQUE,
        fullname VARCHAR NOT NULL,
        email VARCHAR NOT NULL,
        teams VARCHAR[] NOT NULL,
        created_at DOUBLE NOT NULL
    );
    CREATE TABLE hub_teams (
        handle VARCHAR PRIMARY KEY,
        fullname VARCHAR NOT NULL
    );
    CREATE TABLE hub_secrets (
        name VARCHAR PRIMARY KEY,
        secret VARCHAR NOT NULL
    );
    CREATE TABLE hub_possessions (
        sha256 VARCHAR NOT NULL,
        owner VARCHAR NOT NULL,
        size BIGINT NOT NULL,
        how VARCHAR NOT NULL,
        proven_at DOUBLE NOT NULL,
        PRIMARY KEY (sha256, owner)
    );
    CREATE TABLE hub_cards (
        repo BIGINT PRIMARY KEY,
        commit VARCHAR NOT NULL,
        tags VARCHAR[] NOT NULL,
        pipeline_tag VARCHAR,
        library_name VARCHAR,
        card VARCHAR NOT NULL
    );
    CREATE TABLE hub_discussions (
        repo BIGINT NOT NULL,
        num INTEGER NOT NULL,
        title VARCHAR NOT NULL,
        author VARCHAR NOT NULL,
        status VARCHAR NOT NULL,
        pull BOOLEAN NOT NULL,
        target VARCHAR,
        created_at DOUBLE NOT NULL,
        PRIMARY KEY (repo, num)
    );
    CREATE TABLE hub_discussion_events (
        repo BIGINT NOT NULL,
        num INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        kind VARCHAR NOT NULL,
        author VARCHAR NOT NULL,
        happened_at DOUBLE NOT NULL,
        data VARCHAR NOT NULL,
        PRIMARY KEY (repo, num, seq)
    );
    CREATE TABLE hub_readers (
        repo BIGINT NOT NULL,
        user_name VARCHAR NOT NULL,
        status VARCHAR NOT NULL,
        changed_at DOUBLE NOT NULL,
        PRIMARY KEY (repo, user_name)
    );
    """,
        SERVICE_TABLES,
        """
    CREATE TABLE hub_sessions (
        sha256 VARCHAR PRIMARY KEY,
        token VARCHAR NOT NULL,
        created_at DOUBLE NOT NULL,
        expires_at DOUBLE NOT NULL
    );
    """,
        # Cards are the registry's now, in `repo_heads`.
        "DROP TABLE hub_cards;",
        "ALTER TABLE hub_cells ADD COLUMN classes VARCHAR[];",
        *JOB_KINDS,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""


def timestamp(seconds: float) -> str:
    """Epoch seconds as the API writes times: `2026-11-20T19:10:53.123Z`."""
    text = datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
