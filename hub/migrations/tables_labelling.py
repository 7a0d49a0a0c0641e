"""Tables of labelling: pictures that wait, what was proposed for them, and who did what to them."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

LABELLING = MigrationSet(
    "labelling",
    (
        """
    CREATE TABLE label_cells (
        cell VARCHAR PRIMARY KEY,
        dataset VARCHAR NOT NULL,
        second_look BOOLEAN NOT NULL,
        rule VARCHAR NOT NULL
    );
    CREATE TABLE label_tasks (
        id VARCHAR PRIMARY KEY,
        cell VARCHAR NOT NULL,
        source VARCHAR NOT NULL,
        picture VARCHAR NOT NULL,
        suffix VARCHAR NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        look VARCHAR NOT NULL,
        look_alike VARCHAR NOT NULL,
        gain DOUBLE,
        doubt DOUBLE NOT NULL,
        rank DOUBLE NOT NULL,
        state VARCHAR NOT NULL,
        looks INTEGER NOT NULL,
        holder VARCHAR,
        lease_until DOUBLE,
        version INTEGER NOT NULL,
        batch VARCHAR,
        created_at DOUBLE NOT NULL
    );
    CREATE TABLE label_proposals (
        task VARCHAR NOT NULL,
        seq INTEGER NOT NULL,
        proposed_by VARCHAR NOT NULL,
        made_at DOUBLE NOT NULL,
        regions VARCHAR NOT NULL,
        PRIMARY KEY (task, seq)
    );
    CREATE TABLE label_actions (
        id VARCHAR PRIMARY KEY,
        task VARCHAR NOT NULL,
        person VARCHAR NOT NULL,
        what VARCHAR NOT NULL,
        made_at DOUBLE NOT NULL,
        seconds DOUBLE NOT NULL,
        clicks INTEGER NOT NULL,
        keys INTEGER NOT NULL,
        started_from INTEGER NOT NULL,
        void BOOLEAN NOT NULL,
        kept INTEGER NOT NULL,
        changed INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        regions VARCHAR NOT NULL
    );
    CREATE TABLE label_batches (
        id VARCHAR PRIMARY KEY,
        cell VARCHAR NOT NULL,
        dataset VARCHAR NOT NULL,
        pictures INTEGER NOT NULL,
        instances INTEGER NOT NULL,
        person VARCHAR NOT NULL,
        made_at DOUBLE NOT NULL,
        undone_at DOUBLE
    );
    """,
        # How unlike the known packages the strangest one of a capture is, where the novelty watch has said so.
        "ALTER TABLE label_tasks ADD COLUMN novelty DOUBLE",
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
