//! How much may one caller, and how much may all of them?

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vllm_batch::jobs::QueueLimits;

use crate::error::ApiError;
use crate::metrics::LiveGauge;

/// What a caller may do at most; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyLimits {
    /// Requests of any kind a minute. As many may come at once.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Requests of the live endpoints at the same time.
    pub max_live_requests: Option<usize>,
    /// Batches that have not ended.
    pub max_batches: Option<u64>,
    /// Bytes of a file that is uploaded.
    pub max_file_bytes: Option<u64>,
}

impl KeyLimits {
    /// Limits the requests a minute.
    #[must_use]
    pub fn with_requests_per_minute(mut self, requests: NonZeroU32) -> Self {
        self.requests_per_minute = Some(requests);
        self
    }

    /// Limits the live requests at the same time.
    #[must_use]
    pub fn with_max_live_requests(mut self, requests: usize) -> Self {
        self.max_live_requests = Some(requests);
        self
    }

    /// Limits the batches that have not ended.
    #[must_use]
    pub fn with_max_batches(mut self, batches: u64) -> Self {
        self.max_batches = Some(batches);
        self
    }

    /// Limits the bytes of a file.
    #[must_use]
    pub fn with_max_file_bytes(mut self, bytes: u64) -> Self {
        self.max_file_bytes = Some(bytes);
        self
    }

    /// What of them the queue keeps, in the transaction that adds a batch.
    pub(crate) fn of_queue(&self) -> QueueLimits {
        QueueLimits { max_batches: None, max_batches_per_owner: self.max_batches }
    }
}

/// What one caller has left.
#[derive(Debug)]
pub(crate) struct Allowance {
    requests: Option<DefaultDirectRateLimiter>,
    live: Option<Arc<Semaphore>>,
}

impl Allowance {
    pub(crate) fn new(limits: &KeyLimits) -> Self {
        let limiter = |requests| RateLimiter::direct(Quota::per_minute(requests));
        Self { requests: limits.requests_per_minute.map(limiter), live: limits.max_live_requests.map(places) }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// 429, with the time until the next one may come.
    pub(crate) fn take_request(&self) -> Result<(), ApiError> {
        let Some(requests) = &self.requests else { return Ok(()) };
        requests.check().map_err(|not_until| {
            let pause = not_until.wait_time_from(DefaultClock::default().now());
            let message = "This key has sent as many requests as it may in a minute.";
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message).with_retry_after(pause)
        })
    }
}

/// The places for live requests of all callers together.
#[derive(Debug, Clone)]
pub(crate) struct LivePlaces(Arc<Semaphore>);

/// A place for a live request, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct LivePermit {
    _of_all: OwnedSemaphorePermit,
    _of_caller: Option<OwnedSemaphorePermit>,
    _counted: LiveGauge,
}

impl LivePlaces {
    pub(crate) fn new(max_live_requests: usize) -> Self {
        Self(places(max_live_requests))
    }

    /// Takes a place.
    ///
    /// # Errors
    /// 429 if the caller has as many as it may, 503 if all together have.
    pub(crate) fn take(&self, caller: &Allowance) -> Result<LivePermit, ApiError> {
        const SOON: Duration = Duration::from_secs(1);
        let of_caller = caller.live.as_ref().map(|live| Arc::clone(live).try_acquire_owned()).transpose();
        let of_caller = of_caller.map_err(|_| {
            let message = "This key has as many requests under way as it may.";
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_live_requests", message).with_retry_after(SOON)
        })?;
        let of_all = Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            ApiError::unavailable("overloaded", "The server has as many requests under way as it may.")
                .with_retry_after(SOON)
        })?;
        Ok(LivePermit { _of_all: of_all, _of_caller: of_caller, _counted: LiveGauge::up() })
    }
}

fn places(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_and_given_back() {
        let caller = Allowance::new(&KeyLimits::default().with_max_live_requests(1));
        let other = Allowance::new(&KeyLimits::default());
        let places = LivePlaces::new(2);
        let told = |result: Result<LivePermit, ApiError>| result.map_err(|error| error.status().as_u16()).err();
        let first = places.take(&caller).unwrap();
        assert_eq!(told(places.take(&caller)), Some(429));
        let second = places.take(&other).unwrap();
        assert_eq!(told(places.take(&other)), Some(503));
        drop(first);
        assert_eq!(told(places.take(&caller)), None);
        drop(second);
        assert_eq!(told(places.take(&other)), None);
    }

    #[test]
    fn requests_of_a_minute_are_counted() {
        let two = NonZeroU32::new(2).unwrap();
        let caller = Allowance::new(&KeyLimits::default().with_requests_per_minute(two));
        assert_eq!((caller.take_request(), caller.take_request()), (Ok(()), Ok(())));
        assert_eq!(caller.take_request().unwrap_err().status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(Allowance::new(&KeyLimits::default()).take_request(), Ok(()));
    }
}
