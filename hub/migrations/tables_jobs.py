"""The kinds of jobs, as two steps of the hub's migrations: a column that tells them apart, and the same word in what
was asked. Before there were kinds, a refresh was a fine-tune whose `refresh` was not null."""

JOB_KINDS = (
    "ALTER TABLE hub_jobs ADD COLUMN kind VARCHAR DEFAULT 'finetune';",
    """
    UPDATE hub_jobs SET kind = CASE WHEN json_type(spec, '$.refresh') = 'OBJECT' THEN 'refresh' ELSE 'finetune' END;
    UPDATE hub_jobs SET spec = '{"kind":"' || kind || '",' || substr(spec, 2)
        WHERE json_extract_string(spec, '$.kind') IS NULL;
    """,
)
