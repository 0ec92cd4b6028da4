//! Which request is sent next, and which nobody waits for any more?

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::Stream;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};

use crate::engine::OutputStream;
use crate::output::OutputEvent;
use crate::request::Request;

/// A request's place: by priority, then by arrival.
pub(super) type Place = (i32, u64);

/// The requests of an engine, shared by those who bring them and the threads that send them.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Threads without work wait here.
    work: Condvar,
    /// Threads between two tries wait here.
    pause: Condvar,
}

#[derive(Default)]
struct State {
    closed: bool,
    arrivals: u64,
    waiting: BTreeMap<Place, (Request, UnboundedSender<OutputEvent>)>,
    /// Requests that a thread has. Who is not here any more was dropped.
    running: HashMap<Place, UnboundedSender<OutputEvent>>,
}

impl Queue {
    /// Adds a request. Dropping its stream takes it out again.
    pub(super) fn push(self: &Arc<Self>, request: Request) -> OutputStream {
        let (events, receiver) = unbounded();
        let mut state = self.lock();
        let place = (request.priority, state.arrivals);
        state.arrivals += 1;
        state.waiting.insert(place, (request, events));
        drop(state);
        self.work.notify_one();
        OutputStream::new(Held { receiver, place, queue: Arc::clone(self) })
    }

    /// Waits for the next request; `None` once the queue is closed.
    pub(super) fn next(&self) -> Option<(Place, Request)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some((place, (request, events))) = state.waiting.pop_first() {
                state.running.insert(place, events);
                return Some((place, request));
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits before another try. Returns false, and at once, when nobody waits for the request any more.
    pub(super) fn pause(&self, place: Place, duration: Duration) -> bool {
        let end = Instant::now() + duration;
        let mut state = self.lock();
        while state.running.contains_key(&place) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            (state, _) = self.pause.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        false
    }

    /// Ends a request with its last events, unless nobody waits for it any more.
    pub(super) fn finish(&self, place: Place, events: Vec<OutputEvent>) {
        let stream = self.lock().running.remove(&place);
        if let Some(stream) = stream {
            for event in events {
                // If the stream is being dropped, nobody wants the event.
                let _ = stream.unbounded_send(event);
            }
        }
    }

    /// Ends all requests, and the threads once they look.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let (waiting, running) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.running));
        drop(state);
        self.work.notify_all();
        self.pause.notify_all();
        // The streams end with their senders, outside of the lock: that may wake who reads them.
        drop((waiting, running));
    }

    fn abort(&self, place: Place) {
        let mut state = self.lock();
        let waiting = state.waiting.remove(&place);
        let running = state.running.remove(&place);
        drop(state);
        if running.is_some() {
            self.pause.notify_all();
        }
        drop((waiting, running));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The events of a request, which is aborted when they are dropped.
struct Held {
    receiver: UnboundedReceiver<OutputEvent>,
    place: Place,
    queue: Arc<Queue>,
}

impl Stream for Held {
    type Item = OutputEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<OutputEvent>> {
        Pin::new(&mut self.receiver).poll_next(context)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.queue.abort(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next_id(queue: &Queue) -> Option<String> {
        queue.next().map(|(_, request)| request.request_id)
    }

    #[test]
    fn requests_come_by_priority_and_arrival_without_the_dropped_ones() {
        let queue = Arc::new(Queue::default());
        let requests = [("a", 0), ("b", 5), ("c", -1), ("dropped", -9), ("d", 0)];
        let mut streams: Vec<_> =
            requests.map(|(id, priority)| queue.push(Request::new(id, "x").with_priority(priority))).into();
        drop(streams.remove(3));
        let order: Vec<_> = (0..4).filter_map(|_| next_id(&queue)).collect();
        assert_eq!(order, ["c", "a", "d", "b"]);
        queue.close();
        assert_eq!(next_id(&queue), None);
    }

    #[test]
    fn a_pause_ends_when_the_stream_is_dropped_or_the_queue_is_closed() {
        let ends: [fn(&Queue, OutputStream); 2] = [|_, stream| drop(stream), |queue, _| queue.close()];
        for end in ends {
            let queue = Arc::new(Queue::default());
            let stream = queue.push(Request::new("a", "x"));
            let (place, _) = queue.next().expect("a request");
            assert!(queue.pause(place, Duration::ZERO));
            std::thread::scope(|scope| {
                let pause = scope.spawn(|| queue.pause(place, Duration::from_hours(1)));
                end(&queue, stream);
                assert!(!pause.join().expect("no panic"));
            });
        }
    }
}
