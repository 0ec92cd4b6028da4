//! Workers whose store does not hear them for longer than a lease.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use vllm_batch::jobs::{
    BatchQuery, BatchStatus, ChunkProgress, Delivery, DeliveryState, FileQuery, JobStore, Lease, LeaseState, NewChunk,
    Page, QueueLimits, StoreFuture, TaskId, TaskOutcome, WorkerInfo,
};

use super::*;

/// A store that hears no heartbeat while it is deaf, and does everything else.
#[derive(Debug)]
struct HardOfHearing {
    inner: SqlStore,
    is_deaf: AtomicBool,
    /// Heartbeats that were not heard.
    unheard: AtomicUsize,
    /// Tasks that were given out, and to whom.
    taken: Mutex<Vec<(TaskId, String)>>,
}

impl HardOfHearing {
    /// Whom each task was given to, in the order of the tasks.
    fn taken(&self) -> Vec<(TaskId, String)> {
        let mut taken = self.taken.lock().unwrap().clone();
        taken.sort();
        taken
    }
}

macro_rules! passed_on {
    ($($name:ident($($argument:ident: $of:ty),*) -> $answer:ty;)*) => {
        $(fn $name<'a>(&'a self, $($argument: $of),*) -> StoreFuture<'a, $answer> {
            self.inner.$name($($argument),*)
        })*
    };
}

// Some of the methods need them, and all are written by one macro.
#[allow(clippy::elidable_lifetime_names)]
impl JobStore for HardOfHearing {
    passed_on! {
        insert_file(file: &'a FileObject) -> ();
        file(id: &'a str) -> Option<FileObject>;
        files(query: &'a FileQuery) -> Page<FileObject>;
        delete_file(id: &'a str) -> bool;
        expired_files(now: i64, limit: usize) -> Vec<FileObject>;
        insert_batch(batch: &'a Batch, limits: QueueLimits) -> ();
        batch(id: &'a str) -> Option<Batch>;
        batches(query: &'a BatchQuery) -> Page<Batch>;
        queue(limit: usize) -> Vec<Batch>;
        count_batches(owner: Option<&'a str>) -> Vec<(BatchStatus, u64)>;
        cancel_batch(id: &'a str, now: i64) -> Batch;
        update_batch(batch: &'a Batch) -> bool;
        ended_batches(ended_before: i64, limit: usize) -> Vec<Batch>;
        delete_batch(id: &'a str) -> bool;
        finish(lease: &'a Lease, outcome: &'a TaskOutcome, now: i64) -> bool;
        chunk_locations(batch_id: &'a str) -> Vec<(NewChunk, Option<String>)>;
        note_worker(worker: &'a WorkerInfo) -> ();
        forget_worker(name: &'a str) -> ();
        workers(since: i64) -> Vec<WorkerInfo>;
        next_due(now: i64) -> Option<i64>;
        task_attempts(id: TaskId) -> Option<i64>;
        due_deliveries(now: i64, ttl: i64, limit: usize) -> Vec<Delivery>;
        insert_delivery(delivery: &'a Delivery) -> ();
        update_delivery(delivery: &'a Delivery) -> ();
        delivery(id: &'a str) -> Option<Delivery>;
        deliveries(owner: Option<&'a str>, state: DeliveryState, limit: usize) -> Vec<Delivery>;
        delete_delivery(id: &'a str) -> bool;
        ping() -> ();
    }

    fn lease<'a>(&'a self, worker: &'a WorkerInfo, now: i64, ttl: i64) -> StoreFuture<'a, Option<Lease>> {
        Box::pin(async move {
            let lease = self.inner.lease(worker, now, ttl).await?;
            let taken = lease.iter().map(|lease| (lease.task.id, worker.name.clone()));
            self.taken.lock().unwrap().extend(taken);
            Ok(lease)
        })
    }

    fn heartbeat<'a>(
        &'a self,
        lease: &'a Lease,
        progress: &'a ChunkProgress,
        now: i64,
        ttl: i64,
    ) -> StoreFuture<'a, LeaseState> {
        if self.is_deaf.load(Ordering::SeqCst) {
            self.unheard.fetch_add(1, Ordering::SeqCst);
            let error = JobError::Store { message: "nobody listens".to_owned(), is_transient: true };
            return Box::pin(std::future::ready(Err(error)));
        }
        self.inner.heartbeat(lease, progress, now, ttl)
    }
}

/// A house whose store may become deaf.
async fn house() -> (House, Arc<HardOfHearing>) {
    let mut house = House::new().await;
    let url = format!("sqlite://{}", house.folder.path().join("jobs.db").display());
    let store = HardOfHearing {
        inner: SqlStore::connect(&url).await.unwrap(),
        is_deaf: AtomicBool::new(false),
        unheard: AtomicUsize::new(0),
        taken: Mutex::default(),
    };
    let (store, files) = (Arc::new(store), house.service.files_store().clone());
    house.service = JobService::new(store.clone(), files, house.service.options().clone());
    (house, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_not_take_its_own_task_away_from_itself() {
    let (house, store) = house().await;
    let batch = house.submit(&lines(10)).await;
    let engine = Arc::new(moody().held());
    let worker = house.worker("w", &engine, |options| options.max_tasks = 3);
    let running = tokio::spawn(async move { worker.run_until_idle().await });
    until(async || engine.stats().running > 0).await;
    store.is_deaf.store(true, Ordering::SeqCst);
    house.wait(61);
    let other = house.submit(&lines(10)).await;
    // It looks for tasks as often as its heart beats.
    until(async || store.unheard.load(Ordering::SeqCst) > 20).await;
    assert_eq!(store.taken().len(), 2, "to validate and to run the first batch");
    store.is_deaf.store(false, Ordering::SeqCst);
    engine.release_all();
    running.await.unwrap().unwrap();
    for batch in [&batch, &other] {
        assert_eq!(standing(&house.get(batch).await), ("completed", [10, 9, 1]));
        let results = house.results(batch).await;
        assert_eq!(results.each_ref().map(|rows| names_of(rows)), names(10));
    }
    assert_eq!((store.taken().len(), engine.stats().submitted), (6, 20), "each task was taken once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lost_its_task_stops_as_soon_as_it_is_heard() {
    let (house, store) = house().await;
    let batch = house.submit(&lines(10)).await;
    let engine = Arc::new(moody().held());
    let worker = house.worker("old", &engine, |options| options.max_tasks = 1);
    let running = tokio::spawn(async move { worker.run_until_idle().await });
    until(async || engine.stats().running > 0).await;
    store.is_deaf.store(true, Ordering::SeqCst);
    house.wait(61);
    house.work().await;
    let results = house.results(&batch).await;
    assert_eq!(results.each_ref().map(|rows| names_of(rows)), names(10));
    store.is_deaf.store(false, Ordering::SeqCst);
    // Nothing lets its rows end.
    running.await.unwrap().unwrap();
    assert_eq!((engine.stats().running, engine.stats().finished), (0, 0));
    assert_eq!(standing(&house.get(&batch).await), ("completed", [10, 9, 1]));
    assert_eq!(house.results(&batch).await, results);
    assert_eq!(files_below(&house.folder.path().join("files/batches")), Vec::<String>::new());
}
