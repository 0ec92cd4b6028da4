//! One request from the queue to its answer, over all tries.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::body::{Call, Flavour};
use super::client::{Client, Reply};
use super::embedding;
use super::queue::{Place, Queue};
use super::refusal;
use crate::error::RequestError;
use crate::http::RetryPolicy;
use crate::output::OutputEvent;
use crate::request::{Request, Task};

/// Why a try did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The same request may succeed later.
    Transient {
        error: RequestError,
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// Another try would end the same way.
    Final(RequestError),
}

/// What all threads of an engine share.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) client: Client,
    pub(super) model: String,
    pub(super) flavour: Flavour,
    pub(super) policy: RetryPolicy,
}

impl Worker {
    /// Answers requests until the queue is closed.
    pub(super) fn run(&self, queue: &Queue) {
        while let Some((place, request)) = queue.next() {
            // Whatever breaks on one answer must not take the thread along.
            let result = catch_unwind(AssertUnwindSafe(|| self.answer(queue, place, &request)));
            let panicked = || RequestError::EngineFailed { message: "a thread panicked".to_owned() };
            match result.unwrap_or_else(|_| Some(Err(panicked()))) {
                Some(Ok(events)) => queue.finish(place, events),
                Some(Err(error)) => queue.finish(place, vec![OutputEvent::Failed(error)]),
                None => {}
            }
        }
    }

    /// `None` if nobody waits for the answer any more.
    fn answer(&self, queue: &Queue, place: Place, request: &Request) -> Option<Result<Events, RequestError>> {
        let call = match Call::new(request, &self.model, self.flavour) {
            Ok(call) => call,
            Err(error) => return Some(Err(error)),
        };
        let end = Instant::now() + self.policy.deadline;
        let mut tries = 0;
        loop {
            let (error, retry_after) = match self.attempt(&call, request, end) {
                Ok(events) => return Some(Ok(events)),
                Err(Failure::Final(error)) => return Some(Err(error)),
                Err(Failure::Transient { error, retry_after }) => (error, retry_after),
            };
            tries += 1;
            let pause = self.policy.pause(tries, retry_after);
            let left = end.saturating_duration_since(Instant::now());
            if tries > self.policy.max_retries || pause >= left {
                return Some(Err(error));
            }
            tracing::debug!(request_id = request.request_id, tries, ?pause, %error, "another try follows");
            if !queue.pause(place, pause) {
                return None;
            }
        }
    }

    fn attempt(&self, call: &Call, request: &Request, end: Instant) -> Result<Events, Failure> {
        let left = end.saturating_duration_since(Instant::now());
        let reply = self.client.post(call.path, &call.body, left)?;
        if reply.status != 200 {
            return Err(refusal::of_reply(&reply, &self.model));
        }
        events(&reply, request)
    }
}

/// All events of a request, the last one included.
type Events = Vec<OutputEvent>;

fn events(reply: &Reply, request: &Request) -> Result<Events, Failure> {
    let unreadable =
        |message| Failure::Transient { error: refusal::invalid_response(reply.status, message), retry_after: None };
    match &request.task {
        Task::Embed(params) => {
            let output = embedding::parse(&reply.body, request, params).map_err(unreadable)?;
            Ok(vec![OutputEvent::Embedded(output)])
        }
        Task::Generate(params) => {
            let answer = Answer::parse(&reply.body, params.n as usize).map_err(unreadable)?;
            let (deltas, output) = answer.into_output(request).map_err(Failure::Final)?;
            Ok(deltas.into_iter().map(OutputEvent::Delta).chain([OutputEvent::Finished(output)]).collect())
        }
        // No such request is sent.
        Task::Score(_) => Err(unreadable("scores were not asked for".to_owned())),
    }
}
