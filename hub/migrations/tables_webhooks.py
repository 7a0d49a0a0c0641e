"""Tables of webhooks: who is told what, and the deliveries that wait, were made or were given up."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

WEBHOOKS = MigrationSet(
    "webhooks",
    (
        # No secret is here: it is derived from the hub's own key, the webhook's id and `generation`. `subject` says
        # what a delivery tells of, to be looked at again before it is sent.
        """
    CREATE TABLE hub_webhooks (
        id VARCHAR PRIMARY KEY,
        team VARCHAR NOT NULL,
        url VARCHAR NOT NULL,
        events VARCHAR[] NOT NULL,
        watch VARCHAR[] NOT NULL,
        note VARCHAR NOT NULL,
        active BOOLEAN NOT NULL,
        generation INTEGER NOT NULL,
        created_by VARCHAR NOT NULL,
        created_at DOUBLE NOT NULL
    );
    CREATE TABLE hub_webhook_deliveries (
        id VARCHAR PRIMARY KEY,
        webhook VARCHAR NOT NULL,
        event VARCHAR NOT NULL,
        subject VARCHAR NOT NULL,
        body VARCHAR NOT NULL,
        state VARCHAR NOT NULL,
        attempts INTEGER NOT NULL,
        created_at DOUBLE NOT NULL,
        next_at DOUBLE NOT NULL,
        tried_at DOUBLE,
        status INTEGER,
        error VARCHAR NOT NULL,
        seconds DOUBLE
    );
    """,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
