"""Tables of the base's growth: contributions and what became of them, runs, their cells, the policy, and the log."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

GROWTH = MigrationSet(
    "growth",
    (
        # `contribution_active` and `growth_active` hold what there is one of: an offer of a dataset, a run of all.
        """
    CREATE TABLE contributions (
        id VARCHAR PRIMARY KEY,
        repo BIGINT NOT NULL,
        dataset VARCHAR NOT NULL,
        commit VARCHAR NOT NULL,
        state VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        checks VARCHAR NOT NULL,
        result VARCHAR NOT NULL,
        images INTEGER NOT NULL,
        offered_by VARCHAR NOT NULL,
        offered_at DOUBLE NOT NULL,
        changed_by VARCHAR NOT NULL,
        changed_at DOUBLE NOT NULL,
        note VARCHAR NOT NULL,
        job VARCHAR,
        busy_until DOUBLE NOT NULL
    );
    CREATE INDEX contributions_by_repo ON contributions (repo);
    CREATE TABLE contribution_active (
        repo BIGINT PRIMARY KEY,
        id VARCHAR NOT NULL
    );
    CREATE TABLE contribution_images (
        id VARCHAR NOT NULL,
        sha256 VARCHAR NOT NULL,
        PRIMARY KEY (id, sha256)
    );
    CREATE SEQUENCE contribution_log_numbers;
    CREATE TABLE contribution_log (
        number BIGINT PRIMARY KEY DEFAULT nextval('contribution_log_numbers'),
        id VARCHAR NOT NULL,
        happened_at DOUBLE NOT NULL,
        state VARCHAR NOT NULL,
        who VARCHAR NOT NULL,
        reason VARCHAR NOT NULL
    );
    CREATE TABLE growth_policies (
        version INTEGER PRIMARY KEY,
        document VARCHAR NOT NULL,
        set_by VARCHAR NOT NULL,
        set_at DOUBLE NOT NULL,
        note VARCHAR NOT NULL
    );
    CREATE TABLE growth_runs (
        id VARCHAR PRIMARY KEY,
        cause VARCHAR NOT NULL UNIQUE,
        by_rule BOOLEAN NOT NULL,
        state VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        asked_by VARCHAR NOT NULL,
        asked_at DOUBLE NOT NULL,
        start VARCHAR NOT NULL,
        plan VARCHAR NOT NULL,
        result VARCHAR NOT NULL,
        job VARCHAR,
        base VARCHAR,
        ended_at DOUBLE,
        ended_by VARCHAR
    );
    CREATE TABLE growth_active (
        one INTEGER PRIMARY KEY,
        run VARCHAR NOT NULL
    );
    CREATE TABLE growth_contributions (
        run VARCHAR NOT NULL,
        id VARCHAR NOT NULL,
        images INTEGER NOT NULL,
        PRIMARY KEY (run, id)
    );
    CREATE TABLE growth_cells (
        run VARCHAR NOT NULL,
        cell VARCHAR NOT NULL,
        state VARCHAR NOT NULL,
        start VARCHAR NOT NULL,
        job VARCHAR,
        version VARCHAR,
        stages VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        difference DOUBLE,
        PRIMARY KEY (run, cell)
    );
    CREATE SEQUENCE growth_log_numbers;
    CREATE TABLE growth_log (
        number BIGINT PRIMARY KEY DEFAULT nextval('growth_log_numbers'),
        happened_at DOUBLE NOT NULL,
        cell VARCHAR NOT NULL,
        run VARCHAR NOT NULL,
        kind VARCHAR NOT NULL,
        title VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        who VARCHAR NOT NULL
    );
    """,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
