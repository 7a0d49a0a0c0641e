"""The table of hand-offs: which picture of a queue is out at which labelling tool."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

HANDOFF = MigrationSet(
    "handoff",
    (
        # `place` names the tool, its address and the project there. A task is at one place at most. `mark` is the
        # state of the remote answer that was seen last; `claimer` sends it now, until `claimed_until`.
        """
    CREATE TABLE label_handoffs (
        task VARCHAR PRIMARY KEY,
        cell VARCHAR NOT NULL,
        tool VARCHAR NOT NULL,
        place VARCHAR NOT NULL,
        remote VARCHAR,
        state VARCHAR NOT NULL,
        mark VARCHAR NOT NULL,
        note VARCHAR NOT NULL,
        person VARCHAR NOT NULL,
        claimer VARCHAR NOT NULL,
        claimed_until DOUBLE NOT NULL,
        changed_at DOUBLE NOT NULL
    );
    """,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
