"""The tables of the Xet store. Chunk tables are not here: each lies at the end of its xorb's blob."""

from __future__ import annotations

from registry.catalog.migrations import MigrationSet

XET = MigrationSet(
    "xet",
    (
        # state: "arriving" (announced, perhaps not yet stored), "stored", "leaving" (to be removed).
        """
        CREATE SEQUENCE xet_xorb_keys;
        CREATE TABLE xet_xorbs (
            key BIGINT PRIMARY KEY DEFAULT nextval('xet_xorb_keys'),
            hash VARCHAR NOT NULL UNIQUE,
            state VARCHAR NOT NULL,
            blob VARCHAR NOT NULL,
            packed BIGINT NOT NULL,
            raw BIGINT NOT NULL,
            chunks INTEGER NOT NULL,
            touched_at TIMESTAMP NOT NULL
        );
        CREATE TABLE xet_files (
            hash VARCHAR PRIMARY KEY,
            sha256 VARCHAR NOT NULL,
            size BIGINT NOT NULL,
            xorbs BIGINT[] NOT NULL,
            starts INTEGER[] NOT NULL,
            ends INTEGER[] NOT NULL,
            lengths INTEGER[] NOT NULL
        );
        CREATE INDEX xet_files_by_sha256 ON xet_files (sha256);
        CREATE TABLE xet_registrations (
            file VARCHAR PRIMARY KEY,
            registered_at TIMESTAMP NOT NULL
        );
        CREATE TABLE xet_landmarks (
            chunk VARCHAR NOT NULL,
            file VARCHAR NOT NULL,
            PRIMARY KEY (chunk, file)
        );
        CREATE INDEX xet_landmarks_by_chunk ON xet_landmarks (chunk);
        CREATE TABLE xet_epochs (
            holder VARCHAR PRIMARY KEY,
            number BIGINT NOT NULL
        );
        CREATE TABLE xet_identity (
            id VARCHAR PRIMARY KEY
        );
        """,
    ),
)
