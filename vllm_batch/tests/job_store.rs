//! The stores of jobs that this crate has, held to the contract of all stores.
//!
//! PostgreSQL is tested by `scripts/test_postgres.sh`, which starts a server and says so in `VLLM_BATCH_TEST_POSTGRES`.

#[path = "common/databases.rs"]
mod databases;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vllm_batch::jobs::{
    Batch, BatchQuery, BatchStatus, ChunkProgress, FileObject, FilePurpose, JobStore, LeaseState, NewChunk,
    QueueLimits, SqlStore, TaskKind, TaskOutcome, WorkerInfo,
};
use vllm_batch::testing::{check_job_events, check_job_store};

use databases::{block_on, on_each, postgres_url};

/// A store of SQLite that ends with its connections.
async fn in_memory() -> Arc<dyn JobStore> {
    Arc::new(SqlStore::connect("sqlite::memory:").await.expect("SQLite"))
}

#[test]
fn sqlite_in_memory_keeps_to_the_contract() {
    block_on(check_job_store(in_memory));
}

#[test]
fn sqlite_in_a_file_keeps_to_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let count = AtomicUsize::new(0);
    let make = || async {
        let path = folder.path().join(format!("jobs {}.db", count.fetch_add(1, Ordering::Relaxed)));
        Arc::new(SqlStore::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap())
            as Arc<dyn JobStore>
    };
    block_on(check_job_store(make));
}

#[test]
#[ignore = "needs PostgreSQL: scripts/test_postgres.sh"]
fn postgres_keeps_to_the_contract() {
    let make = || async {
        let url = postgres_url().await.expect("VLLM_BATCH_TEST_POSTGRES");
        Arc::new(SqlStore::connect(&url).await.unwrap()) as Arc<dyn JobStore>
    };
    block_on(check_job_store(make));
}

#[test]
fn whatever_happens_the_store_is_as_the_model() {
    let mut runner = TestRunner::new(Config { cases: 100, ..Config::default() });
    let scripts = proptest::collection::vec(any::<u8>(), 0..60);
    let property = |script: Vec<u8>| {
        block_on(async { check_job_events(in_memory().await, &script).await });
        Ok(())
    };
    runner.run(&scripts, property).unwrap();
}

/// What has moved a batch of one chunk to its end.
fn outcome(kind: &TaskKind) -> TaskOutcome {
    match kind {
        TaskKind::Validate => {
            let chunk = |index| NewChunk { index, start_byte: 0, end_byte: 1, first_line: 1, num_requests: 1 };
            TaskOutcome::Validated { model: "m".to_owned(), chunks: (0..3).map(chunk).collect() }
        }
        TaskKind::Run(chunk) => {
            TaskOutcome::Ran { progress: ChunkProgress::default(), location: format!("rows-{}", chunk.index) }
        }
        _ => {
            let (counts, usage) = Default::default();
            TaskOutcome::Finalized { output: None, errors: None, counts, usage }
        }
    }
}

#[test]
fn processes_that_share_a_database_do_each_task_once() {
    on_each(|url| async move {
        let first = SqlStore::connect(&url).await.unwrap();
        first.insert_file(&FileObject::new("file-1", FilePurpose::Batch, 0)).await.unwrap();
        for number in 0..10 {
            let batch = Batch::new(format!("batch_{number}"), "/v1/embeddings", "file-1", 0);
            first.insert_batch(&batch, QueueLimits::default()).await.unwrap();
        }
        // Each with connections of its own, as processes have them.
        let work = async |number: usize| {
            let store = SqlStore::connect(&url).await.unwrap();
            let name = format!("worker-{number}");
            let worker = WorkerInfo {
                name,
                models: Vec::new(),
                started_at: 0,
                last_seen: 0,
                tokens_per_second: 0.0,
                rows_per_second: None,
            };
            let mut done = Vec::new();
            // Those that find nothing may have come between two tasks of a batch.
            while !store.queue(1).await.unwrap().is_empty() {
                let Some(lease) = store.lease(&worker, 1, 60).await.unwrap() else { continue };
                assert_eq!(store.heartbeat(&lease, &ChunkProgress::default(), 1, 60).await.unwrap(), LeaseState::Held);
                assert!(store.finish(&lease, &outcome(&lease.task.kind), 1).await.unwrap());
                done.push(lease.task.id);
            }
            done
        };
        let mut done = join_all((0..4).map(work)).await.concat();
        done.sort();
        let count = done.len();
        done.dedup();
        assert_eq!((done.len(), count), (50, 50), "each of ten batches has five tasks");
        assert_eq!(first.count_batches(None).await.unwrap(), [(BatchStatus::Completed, 10)]);
    });
}

#[test]
fn what_was_answered_is_there_for_the_next_process() {
    on_each(|url| async move {
        let batch = Batch::new("batch_1", "/v1/embeddings", "file-1", 0);
        let store = SqlStore::connect(&url).await.unwrap();
        store.insert_file(&FileObject::new("file-1", FilePurpose::Batch, 0)).await.unwrap();
        store.insert_batch(&batch, QueueLimits::default()).await.unwrap();
        drop(store);
        let store = SqlStore::connect_without_migrating(&url).await.unwrap();
        let page = store.batches(&BatchQuery { limit: 2, ..BatchQuery::default() }).await.unwrap();
        assert_eq!((page.data, page.has_more), (vec![batch], false));
    });
}

/// PostgreSQL stores no zero byte. Whoever asks for one has made a mistake, and the database none.
#[test]
fn a_name_that_no_database_knows_is_the_callers_fault() {
    on_each(|url| async move {
        let store = SqlStore::connect(&url).await.unwrap();
        let found = store.file("file-\0").await.map_err(|error| error.code());
        assert!(matches!(found, Ok(None) | Err("invalid_parameter")), "{found:?}");
    });
}

#[test]
fn a_database_that_is_not_there_is_told() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let cases = [
            ("redis://localhost".to_owned(), "invalid_parameter"),
            ("not a url".to_owned(), "invalid_parameter"),
            (format!("sqlite://{}/missing.db", folder.path().display()), "store_unavailable"),
            (format!("sqlite://{}/no/folder/x.db?mode=rwc", folder.path().display()), "store_unavailable"),
            ("sqlite://x.db?mode=nonsense".to_owned(), "store_unavailable"),
        ];
        for (url, code) in cases {
            let error = SqlStore::connect(&url).await.unwrap_err();
            assert_eq!(error.code(), code, "{url}: {error}");
        }
    });
}
