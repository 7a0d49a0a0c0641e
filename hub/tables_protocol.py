"""Tables of what the protocol keeps beside repos: notices, git's names of commits, webhooks and their deliveries."""

from __future__ import annotations

from registry.migrations import MigrationSet

PROTOCOL = MigrationSet(
    "protocol",
    (
        """
    CREATE TABLE hub_notices (
        repo BIGINT NOT NULL,
        kind VARCHAR NOT NULL,
        path VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        who VARCHAR NOT NULL,
        happened_at DOUBLE NOT NULL,
        PRIMARY KEY (repo, kind, path)
    );
    CREATE TABLE git_commits (
        commit VARCHAR PRIMARY KEY,
        repo BIGINT NOT NULL,
        git_sha1 VARCHAR NOT NULL,
        git_tree VARCHAR NOT NULL
    );
    CREATE INDEX git_commits_by_sha1 ON git_commits (git_sha1);
    CREATE INDEX git_commits_by_repo ON git_commits (repo);
    CREATE TABLE hub_webhooks (
        id VARCHAR PRIMARY KEY,
        owner VARCHAR NOT NULL,
        repo VARCHAR NOT NULL,
        url VARCHAR NOT NULL,
        kinds VARCHAR NOT NULL,
        secret VARCHAR NOT NULL,
        created_by VARCHAR NOT NULL,
        created_at DOUBLE NOT NULL
    );
    CREATE TABLE hub_webhook_deliveries (
        id VARCHAR PRIMARY KEY,
        webhook VARCHAR NOT NULL,
        kind VARCHAR NOT NULL,
        body VARCHAR NOT NULL,
        state VARCHAR NOT NULL,
        attempts INTEGER NOT NULL,
        due_at DOUBLE NOT NULL,
        created_at DOUBLE NOT NULL,
        tried_at DOUBLE,
        status INTEGER,
        error VARCHAR
    );
    CREATE INDEX hub_webhook_deliveries_by_webhook ON hub_webhook_deliveries (webhook);
    """,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
