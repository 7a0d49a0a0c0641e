"""Tables of refreshes: each cell's policy with its history, the runs, and what was decided when and why."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

REFRESH = MigrationSet(
    "refresh",
    (
        """
    CREATE TABLE refresh_policies (
        cell VARCHAR NOT NULL,
        version INTEGER NOT NULL,
        document VARCHAR NOT NULL,
        set_by VARCHAR NOT NULL,
        set_at DOUBLE NOT NULL,
        note VARCHAR NOT NULL,
        PRIMARY KEY (cell, version)
    );
    CREATE TABLE refresh_runs (
        id VARCHAR PRIMARY KEY,
        cell VARCHAR NOT NULL,
        cause VARCHAR NOT NULL UNIQUE,
        by_rule BOOLEAN NOT NULL,
        state VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        asked_by VARCHAR NOT NULL,
        asked_at DOUBLE NOT NULL,
        inputs VARCHAR NOT NULL,
        new_images INTEGER NOT NULL,
        builder_until DOUBLE NOT NULL,
        tries INTEGER NOT NULL,
        job VARCHAR,
        dataset_commit VARCHAR,
        version VARCHAR,
        ended_at DOUBLE,
        ended_by VARCHAR,
        note VARCHAR NOT NULL
    );
    CREATE INDEX refresh_runs_by_cell ON refresh_runs (cell);
    CREATE TABLE refresh_active (
        cell VARCHAR PRIMARY KEY,
        run VARCHAR NOT NULL
    );
    CREATE TABLE refresh_images (
        cell VARCHAR NOT NULL,
        sha256 VARCHAR NOT NULL,
        run VARCHAR NOT NULL,
        PRIMARY KEY (cell, sha256)
    );
    CREATE TABLE refresh_status (
        cell VARCHAR PRIMARY KEY,
        code VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        since DOUBLE NOT NULL
    );
    CREATE SEQUENCE refresh_log_numbers;
    CREATE TABLE refresh_log (
        number BIGINT PRIMARY KEY DEFAULT nextval('refresh_log_numbers'),
        cell VARCHAR NOT NULL,
        happened_at DOUBLE NOT NULL,
        kind VARCHAR NOT NULL,
        run VARCHAR NOT NULL,
        title VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        who VARCHAR NOT NULL
    );
    CREATE INDEX refresh_log_by_cell ON refresh_log (cell);
    """,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
OF_CELL = (
    *("refresh_policies", "refresh_runs", "refresh_active", "refresh_images", "refresh_status"),
    "refresh_log",
)
"""What goes with a cell that is deleted."""
