"""Tables of access: the datasets that a cell's repository holds something of."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

ACCESS = MigrationSet(
    "access",
    (
        # What was made before is read from the variants and from the jobs that ran, those that compared with an
        # earlier dataset among them. A name that leads to no dataset any more is kept, and counts as private: nobody
        # can tell now what it was. Then the repositories of cells follow the datasets.
        """
    CREATE TABLE hub_cell_sources (
        cell VARCHAR NOT NULL,
        dataset VARCHAR NOT NULL,
        repo BIGINT,
        namespace VARCHAR NOT NULL,
        private BOOLEAN NOT NULL
    );
    CREATE TABLE hub_closed_repos (
        repo BIGINT PRIMARY KEY
    );
    INSERT INTO hub_cell_sources
        SELECT u.cell, u.dataset, any_value(r.key),
            any_value(coalesce(lower(r.namespace), split_part(u.dataset, '/', 1))),
            any_value(coalesce(r.private OR r.gated <> 'no', true))
        FROM (
            SELECT cell, lower(split_part(dataset, '@', 1)) AS dataset FROM hub_variants WHERE dataset <> ''
            UNION
            SELECT json_extract_string(spec, '$.cell'), lower(json_extract_string(spec, '$.dataset'))
                FROM hub_jobs WHERE attempt > 0
            UNION
            SELECT json_extract_string(spec, '$.cell'), lower(json_extract_string(spec, '$.earlier.dataset'))
                FROM hub_jobs WHERE attempt > 0
        ) u
        LEFT JOIN repo_handles h ON h.handle = 'dataset/' || u.dataset
        LEFT JOIN repos r ON r.key = h.repo
        WHERE u.cell IS NOT NULL AND u.dataset IS NOT NULL AND u.dataset <> ''
        GROUP BY u.cell, u.dataset;
    INSERT INTO hub_closed_repos
        SELECT key FROM repos WHERE type = 'model' AND namespace = 'cells' AND NOT private
            AND name IN (SELECT cell FROM hub_cell_sources WHERE private);
    UPDATE repos SET private = true WHERE key IN (SELECT repo FROM hub_closed_repos);
    """,
    ),
)
"""A change of a table is a new step, never an edit of an old one."""
