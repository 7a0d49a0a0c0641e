"""The table of promotions by rule: what the rule tried, asked or waits for, once for each thing that it knew."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

PROMOTER = MigrationSet(
    "promoter",
    (
        # `cause` is a digest of all that the step was decided on: the same facts are one step, whoever looks. `owner`
        # is the hub process that tries it now; of one that is gone another one finishes it.
        """
    CREATE TABLE promoter_steps (
        cause VARCHAR PRIMARY KEY,
        cell VARCHAR NOT NULL,
        version VARCHAR NOT NULL,
        stage VARCHAR NOT NULL,
        state VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        owner VARCHAR NOT NULL,
        changed_at DOUBLE NOT NULL
    );
    CREATE TABLE promoter_status (
        cell VARCHAR PRIMARY KEY,
        code VARCHAR NOT NULL,
        version VARCHAR NOT NULL,
        stage VARCHAR NOT NULL,
        reason VARCHAR NOT NULL
    );
    """,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
OF_CELL = ("promoter_steps", "promoter_status")
"""What goes with a cell that is deleted."""
