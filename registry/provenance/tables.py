"""The tables of statements, policies and approvals."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

PROVENANCE = MigrationSet(
    "provenance",
    (
        """
        CREATE TABLE statements (
            commit VARCHAR PRIMARY KEY,
            envelope VARCHAR NOT NULL,
            keyid VARCHAR NOT NULL,
            signed_at TIMESTAMP NOT NULL
        );
        CREATE TABLE decision_seals (
            decision VARCHAR PRIMARY KEY,
            keyid VARCHAR NOT NULL,
            signature VARCHAR NOT NULL
        );
        CREATE SEQUENCE policy_numbers;
        CREATE TABLE policies (
            number BIGINT PRIMARY KEY DEFAULT nextval('policy_numbers'),
            digest VARCHAR NOT NULL,
            set_by VARCHAR NOT NULL,
            set_at TIMESTAMP NOT NULL
        );
        CREATE SEQUENCE approval_numbers;
        CREATE TABLE approvals (
            number BIGINT PRIMARY KEY DEFAULT nextval('approval_numbers'),
            cell VARCHAR NOT NULL,
            variant VARCHAR NOT NULL,
            commit VARCHAR NOT NULL,
            stage VARCHAR NOT NULL,
            approver VARCHAR NOT NULL,
            note VARCHAR NOT NULL,
            given_at TIMESTAMP NOT NULL,
            used_by VARCHAR
        );
        CREATE INDEX approvals_by_cell ON approvals (cell);
        INSERT OR IGNORE INTO refs (repo, name, kind, commit)
            SELECT r.key,
                'refs/stages/' || CASE WHEN r.name = v.cell THEN '' ELSE v.cell || '/' END || v.stage,
                'stage',
                v.commit
            FROM stage_variants v JOIN repos r
                ON r.type = 'model' AND r.namespace || '/' || r.name = split_part(v.variant, '@', 1)
            WHERE v.stage IN ('station', 'beta', 'fleet');
        """,
    ),
)
"""Envelopes and policies are small: they lie in the catalog beside their digests, so no collection can take them."""
