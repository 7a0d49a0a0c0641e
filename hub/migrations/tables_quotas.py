"""The table of reservations: bytes that a team has announced or sent, and that no commit names yet."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

QUOTAS = MigrationSet(
    "quotas",
    (
        """
    CREATE TABLE hub_reservations (
        team VARCHAR NOT NULL,
        owner VARCHAR NOT NULL,
        content VARCHAR NOT NULL,
        size BIGINT NOT NULL,
        made_at DOUBLE NOT NULL,
        PRIMARY KEY (team, owner, content)
    );
    """,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
