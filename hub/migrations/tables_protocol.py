"""Tables of what the protocol keeps beside repos: notices, and git's names of commits."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

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
    """,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
