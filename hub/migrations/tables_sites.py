"""Tables of sites: what the hub wishes of each, what each said of its cameras, and when it was heard."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

SITES = MigrationSet(
    "sites",
    (
        # A wish is addressed when it is made: a site whose token is for the cell gets a row of its own, and a cell that
        # is deleted after that is forgotten there all the same.
        """
    CREATE TABLE site_wishes (
        id VARCHAR NOT NULL,
        site VARCHAR NOT NULL,
        cell VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        document VARCHAR NOT NULL,
        asked_at DOUBLE NOT NULL,
        taken_at DOUBLE,
        PRIMARY KEY (id, site)
    );
    CREATE TABLE site_statistics (
        site VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        cell VARCHAR NOT NULL,
        what VARCHAR NOT NULL,
        line VARCHAR,
        camera VARCHAR,
        happened_at DOUBLE NOT NULL,
        received_at DOUBLE NOT NULL,
        document VARCHAR NOT NULL,
        PRIMARY KEY (site, name)
    );
    CREATE TABLE site_heard (
        site VARCHAR PRIMARY KEY,
        heard_at DOUBLE NOT NULL
    );
    """,
        """
    CREATE TABLE loop_changes (
        id VARCHAR PRIMARY KEY,
        cell VARCHAR NOT NULL,
        line VARCHAR,
        camera VARCHAR,
        stream VARCHAR NOT NULL,
        happened_at DOUBLE NOT NULL,
        reason VARCHAR NOT NULL
    );
    CREATE INDEX loop_changes_by_cell ON loop_changes (cell);
    """,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
