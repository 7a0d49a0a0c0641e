"""Tables of events: what new or failing packages have in common, and each package that was found."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

EVENTS = MigrationSet(
    "events",
    (
        # A finding is one package of one capture. `event` is NULL while it belongs to none. Findings stay when their
        # capture makes room for newer ones; embeddings are float16, in the space `space` (a base and their width). An
        # event is one team's, as are the cells of its findings: nobody else sees its name.
        """
    CREATE TABLE loop_findings (
        id VARCHAR PRIMARY KEY,
        capture VARCHAR NOT NULL,
        cell VARCHAR NOT NULL,
        line VARCHAR,
        seen_at DOUBLE NOT NULL,
        team VARCHAR NOT NULL,
        space VARCHAR NOT NULL,
        embedding BLOB NOT NULL,
        novel BOOLEAN NOT NULL,
        picked BOOLEAN NOT NULL,
        novelty DOUBLE NOT NULL,
        score DOUBLE NOT NULL,
        label VARCHAR NOT NULL,
        box DOUBLE[] NOT NULL,
        answered BOOLEAN NOT NULL,
        outcome VARCHAR,
        request_id VARCHAR NOT NULL,
        event VARCHAR
    );
    CREATE INDEX loop_findings_by_event ON loop_findings (event);
    CREATE INDEX loop_findings_by_cell ON loop_findings (cell);
    CREATE TABLE loop_events (
        id VARCHAR PRIMARY KEY,
        number INTEGER NOT NULL,
        team VARCHAR NOT NULL,
        space VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        state VARCHAR NOT NULL,
        note VARCHAR NOT NULL,
        founded_at DOUBLE NOT NULL,
        changed_at DOUBLE NOT NULL,
        changed_by VARCHAR,
        merged_into VARCHAR
    );
    CREATE TABLE loop_captures_read (
        capture VARCHAR PRIMARY KEY,
        read_at DOUBLE NOT NULL
    );
    """,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
