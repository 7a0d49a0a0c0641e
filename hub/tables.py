"""The hub's own tables in the registry's catalog: cells, tokens, jobs and what happened to them."""

from __future__ import annotations

from datetime import UTC, datetime

from registry.migrations import MigrationSet

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
    ),
)
"""A change of a table is a new step, never an edit of an old one."""


def timestamp(seconds: float) -> str:
    """Epoch seconds as the API writes times: `2026-11-20T19:10:53.123Z`."""
    text = datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
