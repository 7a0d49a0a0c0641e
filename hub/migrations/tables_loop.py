"""Tables of the loop: alerts about cameras, and which messages of the sites have been taken up."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

LOOP = MigrationSet(
    "loop",
    (
        """
    CREATE TABLE loop_messages (
        id VARCHAR PRIMARY KEY,
        taken_at DOUBLE NOT NULL
    );
    CREATE TABLE loop_alerts (
        id VARCHAR PRIMARY KEY,
        cell VARCHAR NOT NULL,
        line VARCHAR,
        camera VARCHAR,
        kind VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        since DOUBLE NOT NULL,
        opened_at DOUBLE NOT NULL,
        state VARCHAR NOT NULL,
        acknowledged_at DOUBLE,
        acknowledged_by VARCHAR,
        closed_at DOUBLE,
        closed_by VARCHAR,
        note VARCHAR NOT NULL
    );
    CREATE INDEX loop_alerts_by_cell ON loop_alerts (cell);
    """,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
