"""Tables of failed picks: what each verdict was, what persons made of it, and which pictures were forgotten."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

FAILURES = MigrationSet(
    "failures",
    (
        """
    CREATE TABLE loop_failures (
        id VARCHAR PRIMARY KEY,
        request_id VARCHAR NOT NULL,
        cell VARCHAR NOT NULL,
        line VARCHAR,
        robot VARCHAR,
        variant VARCHAR,
        base VARCHAR,
        outcome VARCHAR NOT NULL,
        asked_at DOUBLE NOT NULL,
        picked_at DOUBLE NOT NULL,
        received_at DOUBLE NOT NULL,
        said_label VARCHAR,
        instance INTEGER,
        point_x DOUBLE,
        point_y DOUBLE,
        gripper VARCHAR,
        capture VARCHAR,
        verdict VARCHAR NOT NULL,
        evidence VARCHAR NOT NULL,
        looks INTEGER NOT NULL,
        due BOOLEAN NOT NULL,
        judged_at DOUBLE NOT NULL,
        corrected VARCHAR
    );
    CREATE INDEX loop_failures_by_cell ON loop_failures (cell);
    CREATE TABLE loop_corrections (
        failure VARCHAR NOT NULL,
        verdict VARCHAR NOT NULL,
        said_by VARCHAR NOT NULL,
        said_at DOUBLE NOT NULL,
        note VARCHAR NOT NULL
    );
    CREATE TABLE loop_forgotten (
        sha256 VARCHAR NOT NULL,
        forgotten_at DOUBLE NOT NULL,
        forgotten_by VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        report VARCHAR NOT NULL
    );
    """,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
