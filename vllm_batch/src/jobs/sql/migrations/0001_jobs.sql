-- Files, batches, the tasks of batches, workers, and messages to receivers.
--
-- What is stored of a batch or file is its document; beside it are the columns by which it is found. SERIAL_KEY stands for a
-- number that counts up, which each database calls otherwise. Times are Unix seconds. 1 is yes, 0 is no.

CREATE TABLE job_files (
    seq SERIAL_KEY,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    purpose TEXT NOT NULL,
    expires_at BIGINT,
    document TEXT NOT NULL
);
CREATE INDEX job_files_by_owner ON job_files (owner, seq);
CREATE INDEX job_files_by_expiry ON job_files (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE job_batches (
    seq SERIAL_KEY,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    input_file_id TEXT NOT NULL,
    status TEXT NOT NULL,
    priority BIGINT NOT NULL,
    -- When the completion window is over; null once that does not matter any more.
    expires_at BIGINT,
    -- Null until it has ended.
    ended_at BIGINT,
    version BIGINT NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX job_batches_by_owner ON job_batches (owner, seq);
CREATE INDEX job_batches_by_owner_and_status ON job_batches (owner, status);
CREATE INDEX job_batches_by_status ON job_batches (status, seq);
CREATE INDEX job_batches_queue ON job_batches (priority DESC, seq) WHERE ended_at IS NULL;
CREATE INDEX job_batches_queue_by_owner ON job_batches (owner) WHERE ended_at IS NULL;
CREATE INDEX job_batches_queue_by_input ON job_batches (input_file_id) WHERE ended_at IS NULL;
CREATE INDEX job_batches_by_expiry ON job_batches (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX job_batches_by_end ON job_batches (ended_at, seq) WHERE ended_at IS NOT NULL;

CREATE TABLE job_tasks (
    id SERIAL_KEY,
    batch_id TEXT NOT NULL REFERENCES job_batches (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    -- The order in which tasks are taken: priority and place of the batch, then the task's own id.
    priority BIGINT NOT NULL,
    batch_seq BIGINT NOT NULL,
    -- Only workers that serve it may take the task; null for all.
    model TEXT,
    -- Whether it is still to be done, and whether it was given to a worker that has not ended it.
    is_open BIGINT NOT NULL,
    is_held BIGINT NOT NULL DEFAULT 0,
    -- When it may be taken: of one that is held, the end of the lease.
    due_at BIGINT NOT NULL,
    -- Who took it last, how often it was taken, and how often it was given back.
    worker TEXT,
    attempt BIGINT NOT NULL DEFAULT 0,
    num_released BIGINT NOT NULL DEFAULT 0,
    -- Of a chunk: its place, what it is, the key of its rows in the file store, and how far it is.
    chunk BIGINT,
    document TEXT,
    location TEXT,
    completed BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    input_tokens BIGINT NOT NULL DEFAULT 0,
    cached_tokens BIGINT NOT NULL DEFAULT 0,
    output_tokens BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX job_tasks_queue ON job_tasks (priority DESC, batch_seq, id) WHERE is_open = 1;
CREATE INDEX job_tasks_by_due ON job_tasks (due_at) WHERE is_open = 1;
CREATE INDEX job_tasks_open ON job_tasks (batch_id) WHERE is_open = 1;
CREATE INDEX job_tasks_by_batch ON job_tasks (batch_id, kind, chunk);

CREATE TABLE job_workers (
    name TEXT NOT NULL PRIMARY KEY,
    -- A list, as JSON.
    models TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    tokens_per_second DOUBLE PRECISION NOT NULL,
    -- Null before its first row.
    rows_per_second DOUBLE PRECISION
);
CREATE INDEX job_workers_by_last_seen ON job_workers (last_seen);

CREATE TABLE job_deliveries (
    seq SERIAL_KEY,
    id TEXT NOT NULL UNIQUE,
    batch_id TEXT NOT NULL REFERENCES job_batches (id) ON DELETE CASCADE,
    event TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    last_error TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX job_deliveries_by_state ON job_deliveries (state, seq);
CREATE INDEX job_deliveries_due ON job_deliveries (state, next_attempt_at, seq);
CREATE INDEX job_deliveries_by_batch ON job_deliveries (batch_id);
