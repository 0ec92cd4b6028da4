//! One request from the queue to its answer, over all tries.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::backoff::RetryPolicy;
use super::body::{Call, Flavour};
use super::client::Client;
use super::queue::{Place, Queue};
use super::refusal;
use crate::error::RequestError;
use crate::output::{OutputEvent, RequestOutput, TextDelta};
use crate::request::Request;

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
                Some(Ok((deltas, output))) => {
                    let deltas = deltas.into_iter().map(OutputEvent::Delta);
                    queue.finish(place, deltas.chain([OutputEvent::Finished(output)]).collect());
                }
                Some(Err(error)) => queue.finish(place, vec![OutputEvent::Failed(error)]),
                None => {}
            }
        }
    }

    /// `None` if nobody waits for the answer any more.
    fn answer(&self, queue: &Queue, place: Place, request: &Request) -> Option<Result<Answered, RequestError>> {
        let call = match Call::new(request, &self.model, self.flavour) {
            Ok(call) => call,
            Err(error) => return Some(Err(error)),
        };
        let end = Instant::now() + self.policy.deadline;
        let mut tries = 0;
        loop {
            let (error, retry_after) = match self.attempt(&call, request, end) {
                Ok(answered) => return Some(Ok(answered)),
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

    fn attempt(&self, call: &Call, request: &Request, end: Instant) -> Result<Answered, Failure> {
        let left = end.saturating_duration_since(Instant::now());
        let reply = self.client.post(call.path, &call.body, left)?;
        if reply.status != 200 {
            return Err(refusal::of_reply(&reply, &self.model));
        }
        let num_answers = request.sampling_params.n as usize;
        let answer = Answer::parse(&reply.body, num_answers).map_err(|message| Failure::Transient {
            error: refusal::invalid_response(reply.status, message),
            retry_after: None,
        })?;
        answer.into_output(request).map_err(Failure::Final)
    }
}

type Answered = (Vec<TextDelta>, RequestOutput);
