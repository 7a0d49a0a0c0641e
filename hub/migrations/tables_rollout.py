"""Tables of the roll-out: lines on an earlier stage, the canary's share, trials."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

ROLLOUT = MigrationSet(
    "rollout",
    (
        """
    CREATE TABLE rollout_lines (
        cell VARCHAR NOT NULL,
        line VARCHAR NOT NULL,
        stage VARCHAR NOT NULL,
        PRIMARY KEY (cell, line)
    );
    CREATE TABLE rollout_shares (
        cell VARCHAR PRIMARY KEY,
        share DOUBLE NOT NULL
    );
    CREATE TABLE rollout_trials (
        id VARCHAR PRIMARY KEY,
        cell VARCHAR NOT NULL,
        version VARCHAR NOT NULL,
        stage VARCHAR NOT NULL,
        state VARCHAR NOT NULL,
        terms VARCHAR NOT NULL,
        started_at DOUBLE NOT NULL,
        started_by VARCHAR NOT NULL,
        decided_at DOUBLE,
        picks BIGINT NOT NULL,
        successes BIGINT NOT NULL,
        ratio DOUBLE NOT NULL,
        evidence VARCHAR,
        decision VARCHAR
    );
    CREATE INDEX rollout_trials_by_cell ON rollout_trials (cell);
    """,
        # Cells that were deleted: what was recorded of them before counts for no other one of their name. Rows that
        # earlier versions left of such cells go.
        """
    CREATE TABLE rollout_forgotten (
        cell VARCHAR PRIMARY KEY,
        before DOUBLE NOT NULL
    );
    DELETE FROM rollout_lines WHERE cell NOT IN (SELECT name FROM hub_cells);
    DELETE FROM rollout_shares WHERE cell NOT IN (SELECT name FROM hub_cells);
    """,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
