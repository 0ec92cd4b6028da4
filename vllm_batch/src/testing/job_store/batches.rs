//! Batches are added within limits, listed, changed by one at a time, and forgotten once they have ended.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures::future::join_all;

use super::work::{NO_LIMITS, START, Work, batch, code, ids};
use crate::jobs::{BatchQuery, BatchStatus, DeliveryState, JobStore, Order, OutputExpiry, QueueLimits, TaskKind};

pub(super) async fn check<F, S>(make: &F)
where
    F: Fn() -> S,
    S: Future<Output = Arc<dyn JobStore>>,
{
    let store = Work(make().await);
    store.ping().await.expect("the store answers");
    batches_are_what_they_were(&store).await;
    lists_have_pages(&Work(make().await)).await;
    the_queue_has_an_order(&Work(make().await)).await;
    limits_hold(&Work(make().await)).await;
    the_last_place_goes_to_one(&Work(make().await)).await;
    one_change_at_a_time(&Work(make().await)).await;
    what_has_ended_can_be_forgotten(&Work(make().await)).await;
}

async fn batches_are_what_they_were(store: &Work) {
    let mut first = batch("batch_1");
    first.metadata = BTreeMap::from([("te\u{e4}m".to_owned(), "\"red\" \\ \u{1f600}".to_owned())]);
    first.priority = -7;
    first.output_expires_after = Some(OutputExpiry { seconds: 3600 });
    first.owner = "ann".into();
    first.completion_window = "1h".into();
    first.expires_at = START + 3600;
    assert_eq!(code(store.insert_batch(&first, NO_LIMITS).await), Err("not_found"), "there is no input");
    store.add_file("file-1").await;
    store.insert_batch(&first, NO_LIMITS).await.expect("a batch is added");
    assert_eq!(store.get("batch_1").await, first);
    assert_eq!(code(store.batch("batch_2").await), Ok(None));
    assert_eq!(code(store.insert_batch(&first, NO_LIMITS).await), Err("invalid_parameter"), "the id is taken");
    let mut begun = batch("batch_2");
    begun.input_file_id = "file-1".into();
    begun.status = BatchStatus::InProgress;
    assert_eq!(code(store.insert_batch(&begun, NO_LIMITS).await), Err("invalid_parameter"), "it is in progress");
    assert_eq!(store.queue(10).await.expect("the queue is read"), [first]);
    assert_eq!(store.work_off(START).await.len(), 4, "a batch that was refused left a task");
}

async fn lists_have_pages(store: &Work) {
    for number in 1..=6 {
        let mut batch = batch(&format!("batch_{number}"));
        batch.owner = if number % 2 == 1 { "ann" } else { "bob" }.into();
        store.add_file(&batch.input_file_id).await;
        store.insert_batch(&batch, NO_LIMITS).await.expect("a batch is added");
    }
    for id in ["batch_2", "batch_5"] {
        store.cancel_batch(id, START).await.expect("a batch is cancelled");
    }
    let all = || BatchQuery { limit: 4, ..BatchQuery::default() };
    let after = |id: &str| Some(id.to_owned());
    let cases = [
        (all(), "6 5 4 3", true),
        (BatchQuery { after: after("batch_3"), ..all() }, "2 1", false),
        (BatchQuery { order: Order::Ascending, after: after("batch_2"), ..all() }, "3 4 5 6", false),
        (BatchQuery { owner: after("ann"), ..all() }, "5 3 1", false),
        (BatchQuery { status: vec![BatchStatus::Cancelling], ..all() }, "5 2", false),
        (BatchQuery { status: vec![BatchStatus::Cancelling], owner: after("bob"), ..all() }, "2", false),
        (BatchQuery { status: vec![BatchStatus::Cancelling, BatchStatus::Validating], ..all() }, "6 5 4 3", true),
        (BatchQuery { status: vec![BatchStatus::Failed], ..all() }, "", false),
    ];
    for (query, expected, has_more) in cases {
        let page = store.batches(&query).await.expect("batches are listed");
        assert_eq!((numbers(&ids(&page.data)).as_str(), page.has_more), (expected, has_more), "{query:?}");
    }
    for id in ["batch_7", "batch_2"] {
        let query = BatchQuery { owner: after("ann"), after: after(id), ..all() };
        assert_eq!(code(store.batches(&query).await), Err("not_found"), "{query:?}");
    }
    let count = async |owner| store.count_batches(owner).await.expect("batches are counted");
    assert_eq!(count(None).await, [(BatchStatus::Validating, 4), (BatchStatus::Cancelling, 2)]);
    assert_eq!(count(Some("ann")).await, [(BatchStatus::Validating, 2), (BatchStatus::Cancelling, 1)]);
    assert_eq!(count(Some("eve")).await, []);
}

async fn the_queue_has_an_order(store: &Work) {
    for (number, priority) in [(1, 0), (2, 5), (3, -5), (4, 5), (5, 0)] {
        let mut batch = batch(&format!("batch_{number}"));
        batch.priority = priority;
        store.add_file(&batch.input_file_id).await;
        store.insert_batch(&batch, NO_LIMITS).await.expect("a batch is added");
    }
    let queue = async |limit| numbers(&ids(&store.queue(limit).await.expect("the queue is read")));
    assert_eq!(queue(10).await, "2 4 1 5 3");
    assert_eq!(queue(2).await, "2 4");
    let mut third = store.get("batch_3").await;
    third.priority = 9;
    assert_eq!(code(store.update_batch(&third).await), Ok(true));
    assert_eq!(queue(10).await, "3 2 4 1 5");
    let mut taken = Vec::new();
    while let Some(lease) = store.take("w", START).await {
        assert_eq!(lease.task.kind, TaskKind::Validate);
        taken.push(lease.batch.id);
    }
    let taken: Vec<_> = taken.iter().map(String::as_str).collect();
    assert_eq!(numbers(&taken), "3 2 4 1 5", "tasks are taken in the order of the queue");
}

async fn limits_hold(store: &Work) {
    let limits = QueueLimits { max_batches: Some(3), max_batches_per_owner: Some(2) };
    store.add_file("file-1").await;
    let add = async |id: &str, owner: &str| {
        let mut batch = batch(id);
        batch.input_file_id = "file-1".into();
        batch.owner = owner.into();
        store.insert_batch(&batch, limits).await.map_err(|error| error.to_string())
    };
    assert_eq!(add("batch_1", "ann").await, Ok(()));
    assert_eq!(add("batch_2", "ann").await, Ok(()));
    let of_owner = "the queue is full: batches of this owner would be 3, and the limit is 2";
    assert_eq!(add("batch_3", "ann").await, Err(of_owner.to_owned()));
    assert_eq!(add("batch_4", "bob").await, Ok(()));
    let of_all = "the queue is full: batches would be 4, and the limit is 3";
    assert_eq!(add("batch_5", "eve").await, Err(of_all.to_owned()));
    store.work_off(START).await;
    assert_eq!(add("batch_6", "ann").await, Ok(()), "what has ended does not wait");
    let page = store.batches(&BatchQuery { limit: 10, ..BatchQuery::default() }).await.expect("batches are listed");
    assert_eq!(numbers(&ids(&page.data)), "6 4 2 1", "a batch that was refused is there");
}

async fn the_last_place_goes_to_one(store: &Work) {
    store.add_file("file-1").await;
    let limits = QueueLimits { max_batches: Some(5), max_batches_per_owner: None };
    let add = async |number: usize| {
        let mut batch = batch(&format!("batch_{number}"));
        batch.input_file_id = "file-1".into();
        code(store.insert_batch(&batch, limits).await)
    };
    let added = join_all((0..12).map(add)).await;
    let count = |expected| added.iter().filter(|result| **result == expected).count();
    assert_eq!((count(Ok(())), count(Err("queue_full"))), (5, 7), "{added:?}");
    assert_eq!(store.queue(20).await.expect("the queue is read").len(), 5);
}

async fn one_change_at_a_time(store: &Work) {
    let stored = store.add("batch_1").await;
    let change = async |number: i32| {
        let mut changed = stored.clone();
        changed.priority = number;
        changed.metadata = BTreeMap::from([("by".to_owned(), number.to_string())]);
        // What else is changed does not count.
        changed.status = BatchStatus::Completed;
        changed.owner = "eve".into();
        code(store.update_batch(&changed).await)
    };
    let changed = join_all((1..=6).map(change)).await;
    assert_eq!(changed.iter().filter(|result| **result == Ok(true)).count(), 1, "{changed:?}");
    let winner = changed.iter().position(|result| *result == Ok(true)).map_or(0, |index| index as i32 + 1);
    let mut expected = stored.clone();
    expected.priority = winner;
    expected.metadata = BTreeMap::from([("by".to_owned(), winner.to_string())]);
    expected.version = store.get("batch_1").await.version;
    assert_eq!(store.get("batch_1").await, expected);
    assert!(expected.version > stored.version);
    assert_eq!(code(store.update_batch(&batch("batch_2")).await), Ok(false));
}

async fn what_has_ended_can_be_forgotten(store: &Work) {
    for (id, now) in [("batch_1", 10), ("batch_2", 5), ("batch_3", 30)] {
        store.add(id).await;
        store.work_off(START + now).await;
    }
    let open = store.start("batch_4", 1, START).await;
    let ended = async |before, limit| {
        numbers(&ids(&store.ended_batches(START + before, limit).await.expect("batches are listed")))
    };
    assert_eq!(ended(5, 10).await, "");
    assert_eq!(ended(11, 10).await, "2 1");
    assert_eq!(ended(99, 2).await, "2 1");
    assert_eq!(ended(99, 10).await, "2 1 3");
    assert_eq!(code(store.delete_batch("batch_4").await), Ok(false), "it has not ended");
    assert_eq!(store.get("batch_4").await, open);
    assert_eq!(store.chunk_locations("batch_1").await.expect("chunks are listed").len(), 2);
    assert_eq!(code(store.delete_batch("batch_1").await), Ok(true));
    assert_eq!(code(store.delete_batch("batch_1").await), Ok(false));
    assert_eq!(code(store.batch("batch_1").await), Ok(None));
    assert_eq!(store.chunk_locations("batch_1").await.expect("chunks are listed"), []);
    let told = store.deliveries(None, DeliveryState::Pending, 10).await.expect("messages are listed");
    let told: Vec<_> = told.iter().map(|message| message.batch_id.as_str()).collect();
    assert_eq!(numbers(&told), "3 2", "its messages are forgotten with it");
}

fn numbers(ids: &[&str]) -> String {
    ids.iter().map(|id| id.trim_start_matches("batch_")).collect::<Vec<_>>().join(" ")
}
