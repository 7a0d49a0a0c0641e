"""The tables of the fine-tune service, as one step of the hub's migrations: teams' jobs and quotas, datasets and their
images, uploads, variants as lists show them, evaluations, and the audit log."""

SERVICE_TABLES = """
    ALTER TABLE hub_jobs ADD COLUMN team VARCHAR DEFAULT '';
    ALTER TABLE hub_jobs ADD COLUMN request VARCHAR;
    ALTER TABLE hub_jobs ADD COLUMN claimed_at DOUBLE;
    ALTER TABLE hub_jobs ADD COLUMN used_seconds DOUBLE DEFAULT 0;
    ALTER TABLE hub_jobs ADD COLUMN progress VARCHAR;
    CREATE INDEX hub_job_events_by_job ON hub_job_events (job);
    ALTER TABLE hub_cells ADD COLUMN team VARCHAR;
    CREATE TABLE hub_turns (
        team VARCHAR PRIMARY KEY,
        turn BIGINT NOT NULL
    );
    CREATE TABLE hub_quotas (
        team VARCHAR PRIMARY KEY,
        running INTEGER,
        queued INTEGER,
        bytes BIGINT,
        minutes DOUBLE
    );
    CREATE TABLE hub_usage (
        team VARCHAR NOT NULL,
        day INTEGER NOT NULL,
        seconds DOUBLE NOT NULL,
        PRIMARY KEY (team, day)
    );
    CREATE TABLE hub_audit (
        number BIGINT PRIMARY KEY,
        happened_at DOUBLE NOT NULL,
        record VARCHAR NOT NULL,
        who VARCHAR NOT NULL,
        action VARCHAR NOT NULL,
        subject VARCHAR NOT NULL,
        digest VARCHAR NOT NULL
    );
    CREATE TABLE hub_datasets (
        repo BIGINT PRIMARY KEY,
        offered_by VARCHAR,
        offered_at DOUBLE,
        note VARCHAR NOT NULL
    );
    CREATE SEQUENCE hub_image_set_numbers;
    CREATE TABLE hub_image_sets (
        number BIGINT PRIMARY KEY DEFAULT nextval('hub_image_set_numbers'),
        repo BIGINT NOT NULL,
        tree VARCHAR NOT NULL,
        images BIGINT NOT NULL,
        instances BIGINT NOT NULL,
        classes VARCHAR NOT NULL,
        note VARCHAR NOT NULL
    );
    CREATE INDEX hub_image_sets_by_repo ON hub_image_sets (repo);
    CREATE TABLE hub_images (
        set_number BIGINT NOT NULL,
        pos INTEGER NOT NULL,
        file VARCHAR NOT NULL,
        width INTEGER,
        height INTEGER,
        split VARCHAR,
        instances INTEGER NOT NULL,
        sha256 VARCHAR NOT NULL,
        bytes BIGINT NOT NULL
    );
    CREATE TABLE hub_uploads (
        id VARCHAR PRIMARY KEY,
        dataset VARCHAR NOT NULL,
        owner VARCHAR NOT NULL,
        manifest VARCHAR NOT NULL,
        message VARCHAR NOT NULL,
        private BOOLEAN NOT NULL,
        parent VARCHAR,
        files BIGINT NOT NULL,
        bytes BIGINT NOT NULL,
        commit VARCHAR,
        created_at DOUBLE NOT NULL
    );
    CREATE TABLE hub_checked_files (
        sha256 VARCHAR NOT NULL,
        kind VARCHAR NOT NULL,
        PRIMARY KEY (sha256, kind)
    );
    CREATE TABLE hub_variants (
        cell VARCHAR NOT NULL,
        version VARCHAR NOT NULL,
        commit VARCHAR NOT NULL,
        document VARCHAR NOT NULL,
        job VARCHAR,
        dataset VARCHAR NOT NULL,
        metrics VARCHAR NOT NULL,
        created_at DOUBLE NOT NULL,
        PRIMARY KEY (cell, version)
    );
    CREATE TABLE hub_evaluations (
        id VARCHAR PRIMARY KEY,
        model VARCHAR NOT NULL,
        dataset VARCHAR NOT NULL,
        deck VARCHAR NOT NULL,
        metrics VARCHAR NOT NULL,
        created_by VARCHAR NOT NULL,
        created_at DOUBLE NOT NULL
    );
    """
