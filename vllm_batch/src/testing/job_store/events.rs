//! What happens to one batch in any order, beside a model that has no database.

use std::future::Future;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::work::{START, TTL, Work, code, failed, refused, standing, success};
use crate::jobs::{BatchStatus, DeliveryState, JobStore, Lease, LeaseState, TaskKind, TaskOutcome};

/// Scripts of the contract, and events of each.
const SCRIPTS: u64 = 24;
const LENGTH: usize = 40;
/// How often a task is tried.
const MAX_ATTEMPTS: i64 = 2;

pub(super) async fn check<F, S>(make: &F)
where
    F: Fn() -> S,
    S: Future<Output = Arc<dyn JobStore>>,
{
    for seed in 0..SCRIPTS {
        let mut script = [0; LENGTH];
        ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut script);
        check_job_events(make().await, &script).await;
    }
}

/// Lets what each byte stands for happen to a batch, one after the other: time goes by, workers take, renew and end tasks,
/// somebody cancels. After each of them the store must be as a model of it says, which is a page long and has no database.
///
/// Part of [`check_job_store`](super::check_job_store), for random bytes; made for property tests, which find the shortest bytes.
///
/// # Panics
/// Where the store, which must be empty, is not as the model.
pub async fn check_job_events(store: Arc<dyn JobStore>, script: &[u8]) {
    let store = Work(store);
    let batch = store.add("batch_1").await;
    let mut run = Run { store: &store, model: Model::new(batch.expires_at), leases: Vec::new() };
    for (index, byte) in script.iter().enumerate() {
        let event = EVENTS[usize::from(*byte) % EVENTS.len()];
        run.happen(event).await;
        run.compare(&format!("after event {index}, {event:?} of {script:?}")).await;
    }
}

/// What may happen. `First` and `Last` are about the lease that is held longest, and the newest one.
#[derive(Debug, Clone, Copy)]
enum Event {
    Seconds(i64),
    ToTheEnd,
    Take(&'static str),
    Renew(Which),
    Succeed(Which),
    Fail(Which),
    GiveBack(Which),
    Refuse(Which),
    Cancel,
}

#[derive(Debug, Clone, Copy)]
enum Which {
    First,
    Last,
}

/// Common ones are there more than once.
const EVENTS: [Event; 19] = [
    Event::Take("ann"),
    Event::Take("bob"),
    Event::Take("ann"),
    Event::Take("bob"),
    Event::Succeed(Which::First),
    Event::Succeed(Which::Last),
    Event::Succeed(Which::Last),
    Event::Succeed(Which::First),
    Event::Seconds(7),
    Event::Seconds(TTL),
    Event::Renew(Which::First),
    Event::Renew(Which::Last),
    Event::Fail(Which::First),
    Event::Fail(Which::Last),
    Event::GiveBack(Which::First),
    Event::GiveBack(Which::Last),
    Event::Refuse(Which::Last),
    Event::Cancel,
    Event::ToTheEnd,
];

struct Run<'a> {
    store: &'a Work,
    model: Model,
    /// Those that were taken and not ended, lost ones too.
    leases: Vec<Lease>,
}

impl Run<'_> {
    async fn happen(&mut self, event: Event) {
        let now = self.model.now;
        match event {
            Event::Seconds(seconds) => self.model.now += seconds,
            Event::ToTheEnd => self.model.now = now.max(self.model.expires_at),
            Event::Take(worker) => {
                let taken = self.store.take(worker, now).await;
                let found = taken.as_ref().map(|lease| (lease.task.kind.clone(), lease.task.attempt, lease.state()));
                assert_eq!(found, self.model.take(), "{worker} takes a task");
                self.leases.extend(taken);
            }
            Event::Renew(which) => {
                if let Some(lease) = self.which(which).cloned() {
                    let found = self.store.heartbeat(&lease, &super::work::progress(1), now, TTL).await;
                    assert_eq!(code(found), Ok(self.model.renew(&lease)), "{lease:?} is renewed");
                }
            }
            Event::Succeed(which) => self.end(which, success).await,
            Event::Fail(which) => self.end(which, |_| failed(now + 30, MAX_ATTEMPTS)).await,
            Event::GiveBack(which) => self.end(which, |_| TaskOutcome::Released).await,
            Event::Refuse(which) => {
                if self.which(which).is_some_and(|lease| lease.task.kind == TaskKind::Validate) {
                    self.end(which, |_| refused()).await;
                }
            }
            Event::Cancel => {
                let found = code(self.store.cancel_batch("batch_1", now).await).map(|batch| standing(&batch));
                assert_eq!(found, self.model.cancel(), "somebody cancels");
            }
        }
    }

    fn which(&self, which: Which) -> Option<&Lease> {
        match which {
            Which::First => self.leases.first(),
            Which::Last => self.leases.last(),
        }
    }

    async fn end(&mut self, which: Which, outcome: impl Fn(&Lease) -> TaskOutcome) {
        let Some(lease) = self.which(which).cloned() else { return };
        self.leases.retain(|other| *other != lease);
        let outcome = outcome(&lease);
        let found = self.store.end(&lease, &outcome, self.model.now).await;
        assert_eq!(found, self.model.end(&lease, &outcome), "{lease:?} ends as {outcome:?}");
    }

    async fn compare(&self, when: &str) {
        let model = &self.model;
        let batch = self.store.get("batch_1").await;
        assert_eq!(standing(&batch), (model.status, model.early.filter(|_| !model.status.is_terminal())), "{when}");
        let told = self.store.deliveries(None, DeliveryState::Pending, 9).await.expect("messages are listed");
        assert_eq!(told.len(), usize::from(model.status.is_terminal()), "{when}");
        assert_eq!(code(self.store.next_due(model.now).await), Ok(model.next_due()), "{when}");
        let located = self.store.chunk_locations("batch_1").await.expect("chunks are listed");
        let located: Vec<_> = located.into_iter().map(|(_, location)| location.is_some()).collect();
        let expected: Vec<_> = model.tasks.iter().filter(|task| task.is_run()).map(|task| task.has_rows).collect();
        assert_eq!(located, expected, "{when}");
    }
}

/// A batch and its tasks, in the order in which they are taken.
#[derive(Debug, Clone)]
struct Model {
    now: i64,
    expires_at: i64,
    status: BatchStatus,
    early: Option<BatchStatus>,
    tasks: Vec<ModelTask>,
}

#[derive(Debug, Clone)]
struct ModelTask {
    kind: TaskKind,
    is_open: bool,
    is_held: bool,
    due_at: i64,
    attempt: i64,
    num_released: i64,
    has_rows: bool,
}

impl ModelTask {
    fn new(kind: TaskKind, is_open: bool, due_at: i64) -> Self {
        Self { kind, is_open, is_held: false, due_at, attempt: 0, num_released: 0, has_rows: false }
    }

    fn is_run(&self) -> bool {
        matches!(self.kind, TaskKind::Run(_))
    }
}

impl Model {
    fn new(expires_at: i64) -> Self {
        let tasks = vec![ModelTask::new(TaskKind::Validate, true, START)];
        Self { now: START, expires_at, status: BatchStatus::Validating, early: None, tasks }
    }

    fn can_expire(&self) -> bool {
        self.early.is_none() && matches!(self.status, BatchStatus::Validating | BatchStatus::InProgress)
    }

    fn expire(&mut self) {
        if self.now >= self.expires_at && self.can_expire() {
            self.end_early(BatchStatus::Expired);
        }
    }

    fn end_early(&mut self, early: BatchStatus) {
        self.early = Some(early);
        for task in &mut self.tasks {
            task.is_open &= !task.is_run() || task.attempt > 0;
            if !task.is_held {
                task.due_at = task.due_at.min(self.now);
            }
        }
        self.finalize_if_done();
    }

    fn finalize_if_done(&mut self) {
        if self.tasks.iter().any(|task| task.is_open) {
            return;
        }
        if self.early.is_none() {
            self.status = BatchStatus::Finalizing;
        }
        self.tasks.push(ModelTask::new(TaskKind::Finalize, true, self.now));
    }

    fn take(&mut self) -> Option<(TaskKind, i64, LeaseState)> {
        self.expire();
        let now = self.now;
        let index = self.tasks.iter().position(|task| task.is_open && task.due_at <= now)?;
        let task = &mut self.tasks[index];
        (task.is_held, task.due_at, task.attempt) = (true, now + TTL, task.attempt + 1);
        let (kind, attempt) = (task.kind.clone(), task.attempt);
        let state = self.state(&kind);
        Some((kind, attempt, state))
    }

    fn state(&self, kind: &TaskKind) -> LeaseState {
        match self.early {
            _ if *kind == TaskKind::Finalize => LeaseState::Held,
            None => LeaseState::Held,
            Some(BatchStatus::Expired) => LeaseState::Expired,
            Some(_) => LeaseState::Cancelling,
        }
    }

    /// The task of a lease, if nobody took it later.
    fn task(&mut self, lease: &Lease) -> Option<&mut ModelTask> {
        self.tasks.iter_mut().find(|task| task.kind == lease.task.kind && task.attempt == lease.task.attempt)
    }

    fn renew(&mut self, lease: &Lease) -> LeaseState {
        self.expire();
        let due_at = self.now + TTL;
        match self.task(lease).filter(|task| task.is_held) {
            Some(task) => task.due_at = due_at,
            None => return LeaseState::Lost,
        }
        self.state(&lease.task.kind)
    }

    fn end(&mut self, lease: &Lease, outcome: &TaskOutcome) -> bool {
        let (now, early) = (self.now, self.early);
        let Some(task) = self.task(lease) else { return false };
        if !task.is_held {
            return true;
        }
        task.is_held = false;
        let tries = task.attempt - task.num_released;
        match outcome {
            TaskOutcome::Released => (task.due_at, task.num_released) = (now, task.num_released + 1),
            TaskOutcome::Failed { retry_at, max_attempts, .. } => {
                if tries < *max_attempts && !(task.is_run() && early.is_some()) {
                    task.due_at = *retry_at;
                } else {
                    task.is_open = false;
                    self.fail(&lease.task.kind);
                }
            }
            done => {
                task.is_open = false;
                task.has_rows = task.is_run();
                self.go_on(done);
            }
        }
        true
    }

    fn fail(&mut self, kind: &TaskKind) {
        match kind {
            TaskKind::Run(_) if self.early.is_some() => self.finalize_if_done(),
            TaskKind::Run(_) => self.end_early(BatchStatus::Failed),
            TaskKind::Validate | TaskKind::Finalize => self.status = BatchStatus::Failed,
        }
    }

    fn go_on(&mut self, outcome: &TaskOutcome) {
        match outcome {
            TaskOutcome::Validated { chunks, .. } => {
                let begins = self.early.is_none();
                if begins {
                    self.status = BatchStatus::InProgress;
                }
                let new = |chunk| ModelTask::new(TaskKind::Run(chunk), begins, self.now);
                self.tasks.extend(chunks.iter().copied().map(new));
                self.finalize_if_done();
            }
            TaskOutcome::Refused { .. } => self.status = BatchStatus::Failed,
            TaskOutcome::Ran { .. } => self.finalize_if_done(),
            _ => self.status = self.early.unwrap_or(BatchStatus::Completed),
        }
    }

    fn cancel(&mut self) -> Result<(BatchStatus, Option<BatchStatus>), &'static str> {
        if self.status.is_terminal() {
            return Err("invalid_status");
        }
        if self.early.is_none() {
            self.status = BatchStatus::Cancelling;
            self.end_early(BatchStatus::Cancelled);
        }
        Ok((self.status, self.early))
    }

    fn next_due(&self) -> Option<i64> {
        let open = self.tasks.iter().filter(|task| task.is_open).map(|task| task.due_at);
        open.chain(self.can_expire().then_some(self.expires_at)).min().map(|due| due.max(self.now))
    }
}
