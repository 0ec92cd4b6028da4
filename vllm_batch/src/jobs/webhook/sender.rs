//! When is which message sent?

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::task::JoinSet;

use super::post::{Attempt, Poster};
use super::{Delivery, DeliveryState, WebhookEvent, WebhookPolicy};
use crate::batch::CancellationToken;
use crate::http;
use crate::jobs::service::system_time;
use crate::jobs::{BatchStatus, Clock, JobError, JobStore};

/// A receiver that asks for a pause gets one of at most a day.
const MAX_PAUSE: Duration = Duration::from_hours(24);
/// Batches that are looked at for progress messages.
const MAX_WATCHED: usize = 1_000;

/// How messages are sent.
#[derive(Clone)]
#[non_exhaustive]
pub struct SenderOptions {
    /// Where they may go, and how they are signed.
    pub policy: WebhookPolicy,
    /// How long a receiver may take for its answer.
    pub timeout: Duration,
    /// The pauses after the tries that failed: a message is dead after one try more than there are pauses. Each is made up to a
    /// fifth shorter or longer, so that messages that failed together do not come back together.
    pub pauses: Vec<Duration>,
    /// Messages that are on their way at once.
    pub concurrency: usize,
    /// How often the store is asked what is due.
    pub poll_interval: Duration,
    /// The least time between two progress messages of a batch.
    pub progress_interval: Duration,
    /// The time, in Unix seconds.
    pub clock: Clock,
}

impl Default for SenderOptions {
    /// Ten seconds for an answer; after a failure 5 seconds, 1, 5 and 30 minutes, 2, 5 and 10 hours; 16 messages at once; every
    /// second; progress every 30 seconds; the system's clock.
    fn default() -> Self {
        Self {
            policy: WebhookPolicy::default(),
            timeout: Duration::from_secs(10),
            pauses: [5, 60, 300, 1_800, 7_200, 18_000, 36_000].map(Duration::from_secs).to_vec(),
            concurrency: 16,
            poll_interval: Duration::from_secs(1),
            progress_interval: Duration::from_secs(30),
            clock: Arc::new(system_time),
        }
    }
}

impl fmt::Debug for SenderOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SenderOptions")
            .field("policy", &self.policy)
            .field("timeout", &self.timeout)
            .field("pauses", &self.pauses)
            .finish_non_exhaustive()
    }
}

/// Sends the messages of a store until they are taken. Several senders, in one process or in several, share the work; a message may
/// reach its receiver twice (after a crash, say), with the same `webhook-id`.
///
/// Success is a status of 2xx. A redirect is not followed, and is a failure as any other status. 410 ends the tries at once.
/// A message without tries left is dead, and waits for somebody to replay or delete it; one about progress is dropped.
#[derive(Debug, Clone)]
pub struct WebhookSender {
    store: Arc<dyn JobStore>,
    options: Arc<SenderOptions>,
    poster: Arc<Poster>,
}

impl WebhookSender {
    /// A sender of the messages of this store.
    pub fn new(store: Arc<dyn JobStore>, options: SenderOptions) -> Self {
        let poster = Poster::new(Arc::new(options.policy.clone()), options.timeout);
        Self::with_poster(store, options, poster)
    }

    pub(super) fn with_poster(store: Arc<dyn JobStore>, options: SenderOptions, poster: Poster) -> Self {
        Self { store, options: Arc::new(options), poster: Arc::new(poster) }
    }

    /// Sends what is due, and makes progress messages, until `shutdown` is cancelled; then waits for those on their way. A store
    /// that does not answer is asked again.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut on_their_way = JoinSet::new();
        let mut progress_at = self.now();
        while !shutdown.is_cancelled() {
            if self.now() >= progress_at {
                progress_at = self.now() + self.progress_seconds();
                self.log_failure(self.enqueue_progress().await.map(drop));
            }
            let free = self.options.concurrency.max(1).saturating_sub(on_their_way.len());
            match self.due(free).await {
                Ok(due) => {
                    for delivery in due {
                        on_their_way.spawn(self.clone().attempt(delivery));
                    }
                }
                Err(error) => self.log_failure(Err(error)),
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(done) = on_their_way.join_next() => self.log_failure(done.unwrap_or(Ok(()))),
                () = tokio::time::sleep(self.options.poll_interval) => {}
            }
        }
        while let Some(done) = on_their_way.join_next().await {
            self.log_failure(done.unwrap_or(Ok(())));
        }
    }

    /// Sends what is due now, once, and says how many messages that were.
    ///
    /// # Errors
    /// The store does not answer. Messages whose state could not be noted are sent again later.
    pub async fn send_due(&self) -> Result<usize, JobError> {
        let due = self.due(self.options.concurrency.max(1)).await?;
        let num_due = due.len();
        let attempts = join_all(due.into_iter().map(|delivery| self.clone().attempt(delivery))).await;
        attempts.into_iter().collect::<Result<(), _>>()?;
        Ok(num_due)
    }

    /// Makes a progress message for each batch in work whose receiver wants them, unless it got one within the interval. One
    /// that was not taken yet is replaced. Says how many were made.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn enqueue_progress(&self) -> Result<usize, JobError> {
        let interval = self.progress_seconds();
        // All senders give a message of one interval the same time, and so the same id.
        let now = self.now().div_euclid(interval) * interval;
        let mut num_made = 0;
        for batch in self.store.queue(MAX_WATCHED).await? {
            if batch.status != BatchStatus::InProgress {
                continue;
            }
            let progress = |at| Delivery::of(&batch, WebhookEvent::Progress, at);
            let (Some(delivery), Some(earlier)) = (progress(now), progress(now - interval)) else { continue };
            if self.store.delivery(&delivery.id).await?.is_none() {
                self.store.insert_delivery(&delivery).await?;
                self.store.delete_delivery(&earlier.id).await?;
                num_made += 1;
            }
        }
        Ok(num_made)
    }

    async fn due(&self, limit: usize) -> Result<Vec<Delivery>, JobError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        // So long that no other sender takes a message that is still on its way.
        let ttl = 2 * self.options.timeout.as_secs() as i64 + 30;
        self.store.due_deliveries(self.now(), ttl, limit).await
    }

    /// One try, and a note of how it went.
    async fn attempt(self, mut delivery: Delivery) -> Result<(), JobError> {
        let batch = self.store.batch(&delivery.batch_id).await?;
        let attempt = match batch.and_then(|batch| batch.webhook) {
            Some(receiver) => {
                let (poster, message, now) = (self.poster.clone(), delivery.clone(), self.now());
                let sent = tokio::task::spawn_blocking(move || poster.post(&receiver, &message, now)).await;
                sent.unwrap_or_else(|error| Attempt::Failed { message: error.to_string(), retry_after: None })
            }
            // Nobody is left to be told.
            None => Attempt::Gone,
        };
        delivery.attempts += 1;
        self.settle(&mut delivery, attempt);
        if delivery.state == DeliveryState::Dead && delivery.event == WebhookEvent::Progress {
            return self.store.delete_delivery(&delivery.id).await.map(drop);
        }
        self.store.update_delivery(&delivery).await
    }

    /// What follows from a try.
    fn settle(&self, delivery: &mut Delivery, attempt: Attempt) {
        let outcome = match attempt {
            Attempt::Delivered => {
                (delivery.state, delivery.last_error) = (DeliveryState::Delivered, None);
                "delivered"
            }
            Attempt::Gone => {
                (delivery.state, delivery.last_error) = (DeliveryState::Dead, Some("the receiver is gone".to_owned()));
                "gone"
            }
            Attempt::Failed { message, retry_after } => {
                delivery.last_error = Some(message);
                match self.pause(delivery, retry_after) {
                    Some(pause) => delivery.next_attempt_at = self.now() + pause,
                    None => delivery.state = DeliveryState::Dead,
                }
                "failed"
            }
        };
        metrics::counter!("vllm_batch_webhook_attempts_total", "outcome" => outcome).increment(1);
        if delivery.state == DeliveryState::Dead {
            tracing::warn!(id = delivery.id, error = delivery.last_error, "a webhook message is dead");
        }
    }

    /// Seconds until the next try; `None` if there is none. Progress is not worth a second try: the next message says more.
    fn pause(&self, delivery: &Delivery, retry_after: Option<Duration>) -> Option<i64> {
        if delivery.event == WebhookEvent::Progress {
            return None;
        }
        let pause = self.options.pauses.get(usize::try_from(delivery.attempts - 1).ok()?)?;
        let pause = pause.mul_f64(0.8 + 0.4 * http::random()).max(retry_after.unwrap_or_default());
        Some((pause.min(MAX_PAUSE).as_secs_f64().ceil() as i64).max(1))
    }

    fn now(&self) -> i64 {
        (self.options.clock)()
    }

    fn progress_seconds(&self) -> i64 {
        (self.options.progress_interval.as_secs() as i64).max(1)
    }

    #[allow(clippy::unused_self)] // Reads as one step of the loop.
    fn log_failure(&self, result: Result<(), JobError>) {
        if let Err(error) = result {
            tracing::warn!(%error, "webhook messages wait: the store does not answer");
        }
    }
}
