-- Schemas that were registered while a server ran.
CREATE TABLE curation_schemas (
    schema_id TEXT NOT NULL,
    schema_version TEXT NOT NULL,
    document TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (schema_id, schema_version)
);

-- A record with all that was said about it is one document, which changes as a whole. All other columns follow from it, and
-- are there to find and to sort records.
CREATE TABLE curation_tasks (
    id TEXT PRIMARY KEY,
    schema_id TEXT NOT NULL,
    schema_version TEXT NOT NULL,
    record_id TEXT NOT NULL,
    -- The record's name in lower case: databases know that of ASCII alone.
    search_name TEXT NOT NULL,
    document TEXT NOT NULL,
    is_gold BIGINT NOT NULL,
    -- Who said that it is gold or not, or empty.
    gold_by TEXT NOT NULL,
    num_submitted BIGINT NOT NULL,
    -- -1 where fewer than two people answered.
    agreement DOUBLE PRECISION NOT NULL,
    uncertainty DOUBLE PRECISION NOT NULL,
    disagreement DOUBLE PRECISION NOT NULL,
    -- The record's place in an order that is random and always the same.
    lot BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (schema_id, record_id)
);
CREATE INDEX curation_tasks_uncertainty ON curation_tasks (schema_id, uncertainty DESC, lot);
CREATE INDEX curation_tasks_disagreement ON curation_tasks (schema_id, disagreement DESC, lot);
CREATE INDEX curation_tasks_gold_by ON curation_tasks (gold_by);
CREATE INDEX curation_tasks_lot ON curation_tasks (schema_id, lot);

-- Who works on a task, or did.
CREATE TABLE curation_people (
    task_id TEXT NOT NULL,
    annotator TEXT NOT NULL,
    -- claimed, draft, submitted or discarded
    status TEXT NOT NULL,
    -- Until when a claim or a draft keeps the task from others.
    until BIGINT NOT NULL,
    -- The annotation of a review server that it came from, or empty.
    external_id TEXT NOT NULL,
    PRIMARY KEY (task_id, annotator)
);
CREATE INDEX curation_people_annotator ON curation_people (annotator, status);
CREATE INDEX curation_people_external ON curation_people (external_id);

-- Annotations of review servers that were deleted there. What is heard of them later is old.
CREATE TABLE curation_deleted (
    external_id TEXT PRIMARY KEY,
    deleted_at BIGINT NOT NULL
);

-- Batches whose answers were taken over.
CREATE TABLE curation_imports (
    batch_id TEXT NOT NULL,
    schema_id TEXT NOT NULL,
    -- Records that were made so far.
    created BIGINT NOT NULL,
    -- Null until it is done.
    report TEXT,
    finished_at BIGINT,
    PRIMARY KEY (batch_id, schema_id)
);
CREATE TABLE curation_rejections (
    batch_id TEXT NOT NULL,
    schema_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    rejection TEXT NOT NULL,
    PRIMARY KEY (batch_id, schema_id, number)
);
