//! Messages are taken by one sender at a time, and told of once.

use std::future::Future;
use std::sync::Arc;

use futures::future::join_all;

use super::work::{START, Work, code};
use crate::jobs::{Batch, Delivery, DeliveryState, JobStore, WebhookEvent};

pub(super) async fn check<F, S>(make: &F)
where
    F: Fn() -> S,
    S: Future<Output = Arc<dyn JobStore>>,
{
    messages_are_what_they_were(&Work(make().await)).await;
    one_sender_takes_a_message(&Work(make().await)).await;
    only_what_is_wanted_is_told(&Work(make().await)).await;
    each_owner_has_a_list(&Work(make().await)).await;
}

/// Messages of progress, each due a second after the one before.
async fn add_messages(store: &Work, batch: &Batch, count: i64) -> Vec<Delivery> {
    let mut batch = batch.clone();
    if let Some(webhook) = &mut batch.webhook {
        webhook.events = WebhookEvent::ALL.to_vec();
    }
    let message = |index| Delivery::of(&batch, WebhookEvent::Progress, START + index).expect("progress is wanted");
    let messages: Vec<_> = (0..count).map(message).collect();
    for message in &messages {
        store.insert_delivery(message).await.expect("a message is added");
    }
    messages
}

async fn messages_are_what_they_were(store: &Work) {
    let batch = store.add("batch_1").await;
    let messages = add_messages(store, &batch, 3).await;
    let mut first = messages[0].clone();
    let read = async |id: &str| store.delivery(id).await.expect("a message is read");
    assert_eq!(read(&first.id).await, Some(first.clone()));
    assert_eq!(read("evt_unknown").await, None);
    let mut other = first.clone();
    other.body = "other".into();
    store.insert_delivery(&other).await.expect("a message that is there already changes nothing");
    assert_eq!(read(&first.id).await, Some(first.clone()));

    first.state = DeliveryState::Dead;
    first.attempts = 9;
    first.last_error = Some("503".to_owned());
    first.next_attempt_at = START + 500;
    let mut noted = first.clone();
    noted.body = "a body never changes".into();
    store.update_delivery(&noted).await.expect("a try is noted");
    assert_eq!(read(&first.id).await, Some(first.clone()));
    let listed = async |state| store.deliveries(None, state, 10).await.expect("messages are listed");
    assert_eq!(listed(DeliveryState::Dead).await, [first.clone()]);
    assert_eq!(listed(DeliveryState::Pending).await, [messages[2].clone(), messages[1].clone()]);
    assert_eq!(
        store.deliveries(None, DeliveryState::Pending, 1).await.expect("messages are listed"),
        [messages[2].clone()]
    );

    assert_eq!(code(store.delete_delivery(&first.id).await), Ok(true));
    assert_eq!(code(store.delete_delivery(&first.id).await), Ok(false));
    assert_eq!(code(store.update_delivery(&first).await), Err("not_found"));
    let mut orphan = messages[1].clone();
    (orphan.id, orphan.batch_id) = ("evt_orphan".to_owned(), "batch_2".to_owned());
    assert_eq!(code(store.insert_delivery(&orphan).await), Err("not_found"));
}

async fn one_sender_takes_a_message(store: &Work) {
    let batch = store.add("batch_1").await;
    let messages = add_messages(store, &batch, 20).await;
    let due = async |now, limit| store.due_deliveries(now, 30, limit).await.expect("messages are taken");
    assert_eq!(due(START - 1, 10).await, []);
    let mut taken = messages[..2].to_vec();
    for message in &mut taken {
        message.next_attempt_at = START + 1 + 30;
    }
    assert_eq!(due(START + 1, 10).await, taken, "what is due, longest first, and when it is again");
    assert_eq!(due(START + 1, 10).await, []);

    let at_once = join_all((0..6).map(|_| due(START + 19, 5))).await;
    let mut ids: Vec<_> = at_once.iter().flatten().map(|message| message.id.clone()).collect();
    ids.extend(due(START + 19, 50).await.into_iter().map(|message| message.id));
    ids.sort();
    let mut expected: Vec<_> = messages[2..].iter().map(|message| message.id.clone()).collect();
    expected.sort();
    assert_eq!(ids, expected, "each message goes to one sender");

    // A sender that was killed says nothing: its messages are due again.
    assert_eq!(due(START + 31, 10).await.len(), 2);
    taken[0].state = DeliveryState::Delivered;
    store.update_delivery(&taken[0]).await.expect("a try is noted");
    assert_eq!(due(START + 1000, 50).await.len(), 19);
}

async fn only_what_is_wanted_is_told(store: &Work) {
    let wanted: [(&str, Option<&[WebhookEvent]>, usize); 4] = [
        ("batch_1", None, 0),
        ("batch_2", Some(&[]), 1),
        ("batch_3", Some(&[WebhookEvent::Completed]), 1),
        ("batch_4", Some(&[WebhookEvent::Failed, WebhookEvent::Progress]), 0),
    ];
    for (id, events, _) in wanted {
        let mut batch = super::work::batch(id);
        match (events, &mut batch.webhook) {
            (Some(events), Some(webhook)) => webhook.events = events.to_vec(),
            (_, webhook) => *webhook = None,
        }
        store.add_file(&batch.input_file_id).await;
        store.insert_batch(&batch, super::work::NO_LIMITS).await.expect("a batch is added");
    }
    store.work_off(START + 5).await;
    let told = store.deliveries(None, DeliveryState::Pending, 10).await.expect("messages are listed");
    for (id, _, expected) in wanted {
        let batch = store.get(id).await;
        let of_batch: Vec<_> = told.iter().filter(|message| message.batch_id == id).cloned().collect();
        assert_eq!(of_batch.len(), expected, "{id}: {of_batch:?}");
        let message = Delivery::of(&batch, WebhookEvent::Completed, START + 5);
        assert_eq!(of_batch.first(), message.as_ref().filter(|_| expected > 0), "{id}");
    }
}

/// The limit is one of what an owner sees: messages of others take no place.
async fn each_owner_has_a_list(store: &Work) {
    let mut messages = Vec::new();
    for (number, owner) in ["ann", "bob", "bob", "ann", "bob"].into_iter().enumerate() {
        let mut batch = super::work::batch(&format!("batch_{number}"));
        batch.owner = owner.to_owned();
        store.add_file(&batch.input_file_id).await;
        store.insert_batch(&batch, super::work::NO_LIMITS).await.expect("a batch is added");
        messages.extend(add_messages(store, &batch, 1).await);
    }
    let listed = async |owner, limit| {
        let found = store.deliveries(owner, DeliveryState::Pending, limit).await.expect("messages are listed");
        found.iter().map(|found| messages.iter().position(|message| message == found)).collect::<Vec<_>>()
    };
    let cases: [(Option<&str>, usize, &[usize]); 5] = [
        (Some("ann"), 2, &[3, 0]),
        (Some("ann"), 1, &[3]),
        (Some("bob"), 2, &[4, 2]),
        (Some("eve"), 9, &[]),
        (None, 3, &[4, 3, 2]),
    ];
    for (owner, limit, expected) in cases {
        let expected: Vec<_> = expected.iter().copied().map(Some).collect();
        assert_eq!(listed(owner, limit).await, expected, "{owner:?}, {limit}");
    }
}
