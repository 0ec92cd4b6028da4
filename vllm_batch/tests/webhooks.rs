//! Messages from a store to real servers on this machine, tried until they are taken.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use vllm_batch::CancellationToken;
use vllm_batch::jobs::{
    Batch, BatchStatus, Delivery, DeliveryState, FileObject, FilePurpose, JobStore, QueueLimits, SenderOptions,
    SqlStore, TaskKind, TaskOutcome, WebhookConfig, WebhookEvent, WebhookSender, WorkerInfo,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A server that answers its calls with these, one after another, and says which ids came.
struct Receiver {
    port: u16,
    ids: mpsc::Receiver<String>,
}

impl Receiver {
    fn start(answers: Vec<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, ids) = mpsc::channel();
        std::thread::spawn(move || {
            for answer in answers {
                let mut reader = BufReader::new(listener.accept().unwrap().0);
                let (mut id, mut length, mut line) = (String::new(), 0, String::new());
                while reader.read_line(&mut line).unwrap() > 2 {
                    let lower = line.to_ascii_lowercase();
                    if let Some(value) = lower.strip_prefix("webhook-id:") {
                        value.trim().clone_into(&mut id);
                    } else if let Some(value) = lower.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                reader.read_exact(&mut vec![0; length]).unwrap();
                write!(reader.get_mut(), "HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                    .unwrap();
                if sender.send(id).is_err() {
                    break;
                }
            }
        });
        Self { port, ids }
    }
}

struct Setup {
    store: Arc<SqlStore>,
    sender: WebhookSender,
    now: Arc<AtomicI64>,
}

async fn setup(receiver: &Receiver, events: &[WebhookEvent]) -> (Setup, Batch) {
    let store = Arc::new(SqlStore::connect("sqlite::memory:").await.unwrap());
    let now = Arc::new(AtomicI64::new(1_000));
    let mut options = SenderOptions::default();
    options.policy.allow_http = true;
    options.policy.ports = vec![receiver.port];
    options.policy.allow = vec!["127.0.0.1".parse().unwrap()];
    options.policy.secrets = vec![SECRET.parse().unwrap()];
    options.pauses = vec![Duration::from_secs(10), Duration::from_secs(100)];
    options.poll_interval = Duration::from_millis(5);
    let clock = now.clone();
    options.clock = Arc::new(move || clock.load(Ordering::SeqCst));
    let sender = WebhookSender::new(store.clone(), options);

    store.insert_file(&FileObject::new("file-1", FilePurpose::Batch, 1_000)).await.unwrap();
    let mut batch = Batch::new("batch_1", "/v1/embeddings", "file-1", 1_000);
    let url = format!("http://127.0.0.1:{}/hook", receiver.port);
    batch.webhook = Some(WebhookConfig { url, secret: None, events: events.to_vec() });
    store.insert_batch(&batch, QueueLimits::default()).await.unwrap();
    (Setup { store, sender, now }, batch)
}

async fn add(setup: &Setup, batch: &Batch, event: WebhookEvent) -> String {
    let delivery = Delivery::of(batch, event, setup.now.load(Ordering::SeqCst)).unwrap();
    setup.store.insert_delivery(&delivery).await.unwrap();
    delivery.id
}

#[tokio::test]
async fn a_message_is_tried_until_it_is_taken_and_not_before_its_time() {
    let receiver = Receiver::start(vec!["500 Oops", "302 Found\r\nlocation: http://127.0.0.1:1/", "204 No Content"]);
    let (setup, batch) = setup(&receiver, &[]).await;
    let id = add(&setup, &batch, WebhookEvent::Failed).await;
    let state = || async { setup.store.delivery(&id).await.unwrap().unwrap() };

    assert_eq!(setup.sender.send_due().await.unwrap(), 1);
    let first = state().await;
    assert_eq!(
        (first.state, first.attempts, first.last_error.as_deref()),
        (DeliveryState::Pending, 1, Some("status 500"))
    );
    assert!((1_008..=1_012).contains(&first.next_attempt_at), "{first:?}");
    assert_eq!(setup.sender.send_due().await.unwrap(), 0, "its time has not come");
    setup.now.store(1_012, Ordering::SeqCst);
    assert_eq!(setup.sender.send_due().await.unwrap(), 1);
    let second = state().await;
    assert_eq!((second.attempts, second.last_error.as_deref()), (2, Some("status 302")));
    assert!((1_092..=1_132).contains(&second.next_attempt_at), "{second:?}");
    setup.now.store(1_132, Ordering::SeqCst);
    assert_eq!(setup.sender.send_due().await.unwrap(), 1);
    let third = state().await;
    assert_eq!((third.state, third.attempts, third.last_error), (DeliveryState::Delivered, 3, None));
    assert_eq!(third.body, first.body);
    assert_eq!(receiver.ids.try_iter().collect::<Vec<_>>(), [id.clone(), id.clone(), id.clone()]);
}

#[tokio::test]
async fn a_message_without_tries_left_is_dead_and_410_ends_it_at_once() {
    let receiver = Receiver::start(vec!["500 Oops", "500 Oops", "500 Oops", "410 Gone"]);
    let (setup, batch) = setup(&receiver, &[]).await;
    let failed = add(&setup, &batch, WebhookEvent::Failed).await;
    for now in [1_000, 2_000, 3_000] {
        setup.now.store(now, Ordering::SeqCst);
        assert_eq!(setup.sender.send_due().await.unwrap(), 1);
    }
    let dead = setup.store.delivery(&failed).await.unwrap().unwrap();
    assert_eq!((dead.state, dead.attempts), (DeliveryState::Dead, 3));
    let gone = add(&setup, &batch, WebhookEvent::Expired).await;
    assert_eq!(setup.sender.send_due().await.unwrap(), 1);
    let gone = setup.store.delivery(&gone).await.unwrap().unwrap();
    assert_eq!((gone.state, gone.last_error.as_deref()), (DeliveryState::Dead, Some("the receiver is gone")));
    setup.now.store(900_000, Ordering::SeqCst);
    assert_eq!(setup.sender.send_due().await.unwrap(), 0);
}

/// Brings a batch so far that its rows run.
async fn begin(store: &SqlStore, now: i64) {
    let worker = WorkerInfo {
        name: "w".to_owned(),
        models: vec!["m".to_owned()],
        started_at: now,
        last_seen: now,
        tokens_per_second: 0.0,
        rows_per_second: None,
    };
    let lease = store.lease(&worker, now, 60).await.unwrap().unwrap();
    assert_eq!(lease.task.kind, TaskKind::Validate);
    let chunk = vllm_batch::jobs::NewChunk { index: 0, start_byte: 0, end_byte: 1, first_line: 1, num_requests: 1 };
    let outcome = TaskOutcome::Validated { model: "m".to_owned(), chunks: vec![chunk] };
    assert!(store.finish(&lease, &outcome, now).await.unwrap());
}

#[tokio::test]
async fn progress_is_told_once_in_an_interval_and_a_message_that_failed_is_dropped() {
    let receiver = Receiver::start(vec!["200 OK", "500 Oops"]);
    let (setup, _) = setup(&receiver, &[WebhookEvent::Progress]).await;
    assert_eq!(setup.sender.enqueue_progress().await.unwrap(), 0, "no row runs yet");
    begin(&setup.store, 1_000).await;
    assert_eq!(setup.store.batch("batch_1").await.unwrap().unwrap().status, BatchStatus::InProgress);
    assert_eq!(setup.sender.enqueue_progress().await.unwrap(), 1);
    assert_eq!(setup.sender.enqueue_progress().await.unwrap(), 0);
    assert_eq!(setup.sender.send_due().await.unwrap(), 1);
    setup.now.store(1_040, Ordering::SeqCst);
    assert_eq!(setup.sender.enqueue_progress().await.unwrap(), 1);
    assert_eq!(
        setup.store.deliveries(None, DeliveryState::Delivered, 10).await.unwrap(),
        [],
        "the new one takes its place"
    );
    assert_eq!(setup.sender.send_due().await.unwrap(), 1);
    for state in [DeliveryState::Pending, DeliveryState::Dead, DeliveryState::Delivered] {
        assert_eq!(setup.store.deliveries(None, state, 10).await.unwrap(), []);
    }
}

#[tokio::test]
async fn the_loop_sends_what_is_due_and_ends_when_it_is_told() {
    let receiver = Receiver::start(vec!["200 OK"; 4]);
    let (setup, batch) = setup(&receiver, &[]).await;
    let stop = CancellationToken::new();
    let (sender, token) = (setup.sender.clone(), stop.clone());
    let running = tokio::spawn(async move { sender.run(token).await });
    let mut ids = Vec::new();
    for event in [WebhookEvent::Completed, WebhookEvent::Failed, WebhookEvent::Cancelled, WebhookEvent::Expired] {
        ids.push(add(&setup, &batch, event).await);
    }
    let received = tokio::task::spawn_blocking(move || receiver.ids.iter().take(4).collect::<Vec<_>>()).await.unwrap();
    stop.cancel();
    running.await.unwrap();
    let (mut received, mut wanted) = (received, ids);
    received.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(received, wanted);
    assert_eq!(setup.store.deliveries(None, DeliveryState::Delivered, 10).await.unwrap().len(), 4);
}
