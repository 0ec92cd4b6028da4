//! Threads that share out one loop after the other, and hardly sleep between.
//!
//! A step of the network is some two hundred short loops, each of which needs the results of the one before. Threads that
//! go to sleep after each of them would spend longer on waking up than on a small batch: these look for the next loop for
//! a while first.

use std::any::Any;
use std::cell::{RefCell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// How often a thread looks for the next loop before it sleeps: some tens of microseconds.
const LOOKS: usize = 4_000;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

/// A number of threads, the one that calls among them.
#[derive(Debug)]
pub(crate) struct Team {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Team {
    /// Starts all threads but the caller's: with 1, none.
    ///
    /// # Errors
    /// If the operating system has no thread to give.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let mut team = Self { shared: Arc::new(Shared::new(threads.max(1))), threads: Vec::new() };
        for index in 1..threads {
            let shared = Arc::clone(&team.shared);
            let name = format!("vllm_batch-team-{index}");
            team.threads.push(std::thread::Builder::new().name(name).spawn(move || shared.serve(index))?);
        }
        Ok(team)
    }

    /// Runs `work`, whose loops ([`for_each_index`]) are shared out among the team.
    pub(crate) fn install<R>(&self, work: impl FnOnce() -> R) -> R {
        struct Restore(Option<Arc<Shared>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _restore = Restore(CURRENT.replace(Some(Arc::clone(&self.shared))));
        work()
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::SeqCst);
        self.shared.wake_all();
        for thread in self.threads.drain(..) {
            // A panic of a loop was passed on to its caller.
            let _ = thread.join();
        }
    }
}

/// Runs `work` for each of `0..count`, on the installed team if there is one and it is free. `chunk` calls and more are made by
/// one thread after the other. Which thread makes which call is not fixed.
///
/// # Panics
/// If `work` does.
pub(super) fn for_each_index(count: usize, chunk: usize, work: &(impl Fn(usize) + Sync)) {
    let team = CURRENT.with_borrow(Clone::clone);
    match team.filter(|team| team.cursors.len() > 1 && count > chunk) {
        Some(team) => team.run(count, chunk.max(1), work),
        None => (0..count).for_each(work),
    }
}

/// What the threads of a team have in common.
struct Shared {
    /// The number of the loop, times [`LOOP`]; [`OPEN`] while threads may join it; and how many have.
    state: AtomicU64,
    /// The loop. Written by the thread that has `busy`, while no other thread is in a loop.
    job: UnsafeCell<Job>,
    /// Where each thread's own share goes on; others help when theirs is done.
    cursors: Vec<Cursor>,
    /// Whether a loop is running.
    busy: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stops: AtomicBool,
    num_asleep: AtomicUsize,
    asleep: Mutex<()>,
    wake: Condvar,
}

/// A cache line of its own.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Cursor(AtomicUsize);

/// A loop: `call(work, index)` for each of `0..count`.
#[derive(Clone, Copy)]
struct Job {
    call: unsafe fn(*const (), usize),
    work: *const (),
    count: usize,
    chunk: usize,
}

const OPEN: u64 = 1 << 31;
const JOINED: u64 = OPEN - 1;
const LOOP: u64 = 1 << 32;

// SAFETY: `job` is written only while `busy` is held and no thread has joined a loop; it is read by threads that have joined.
// What `work` points to is `Sync`, and lives until all that have joined are gone.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("threads", &self.cursors.len()).finish_non_exhaustive()
    }
}

/// # Safety
/// `work` points to an `F` that is alive.
unsafe fn call<F: Fn(usize)>(work: *const (), index: usize) {
    // SAFETY: as the caller promises.
    unsafe { (*work.cast::<F>())(index) }
}

impl Shared {
    fn new(threads: usize) -> Self {
        Self {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(Job { call: |_, _| {}, work: std::ptr::null(), count: 0, chunk: 1 }),
            cursors: (0..threads).map(|_| Cursor::default()).collect(),
            busy: AtomicBool::new(false),
            panic: Mutex::new(None),
            stops: AtomicBool::new(false),
            num_asleep: AtomicUsize::new(0),
            asleep: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    fn run<F: Fn(usize) + Sync>(&self, count: usize, chunk: usize, work: &F) {
        if self.busy.swap(true, Ordering::Acquire) {
            // A loop within a loop, or beside one: this thread is on its own.
            return (0..count).for_each(work);
        }
        self.open(Job { call: call::<F>, work: std::ptr::from_ref(work).cast(), count, chunk });
        self.take_part(0);
        self.close();
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.busy.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    fn open(&self, job: Job) {
        // SAFETY: this thread has `busy`, and the loop before was closed with nobody in it.
        unsafe { *self.job.get() = job };
        for (index, cursor) in self.cursors.iter().enumerate() {
            cursor.0.store(share(index, self.cursors.len(), job.count), Ordering::Relaxed);
        }
        let number = self.state.load(Ordering::Relaxed) / LOOP;
        self.state.store(number.wrapping_add(1).wrapping_mul(LOOP) | OPEN, Ordering::SeqCst);
        if self.num_asleep.load(Ordering::SeqCst) > 0 {
            self.wake_all();
        }
    }

    /// Lets nobody join any longer, and waits for those who have.
    fn close(&self) {
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while self.state.load(Ordering::Acquire) & JOINED > 0 {
            look(&mut looks);
        }
    }

    /// Makes calls until there are none left: first those of the thread's own share. Panics are kept for the caller.
    fn take_part(&self, thread: usize) {
        // SAFETY: the loop is open, and this thread has opened or joined it.
        let job = unsafe { *self.job.get() };
        let threads = self.cursors.len();
        let all = || {
            for share_of in (thread..threads).chain(0..thread) {
                let end = share(share_of + 1, threads, job.count);
                loop {
                    let start = self.cursors[share_of].0.fetch_add(job.chunk, Ordering::Relaxed);
                    if start >= end {
                        break;
                    }
                    // SAFETY: the work is alive until the loop is closed, which waits for this thread.
                    (start..end.min(start + job.chunk)).for_each(|index| unsafe { (job.call)(job.work, index) });
                }
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(all)) {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }

    /// The life of a thread: joins every loop that it sees open.
    fn serve(&self, thread: usize) {
        let mut seen = 0;
        while let Some(state) = self.next_loop(seen) {
            let is_open = state & OPEN > 0;
            if is_open && self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                // Another thread joined, or it was closed: look again.
                continue;
            }
            seen = state / LOOP;
            if is_open {
                self.take_part(thread);
                self.state.fetch_sub(1, Ordering::Release);
            }
        }
    }

    /// The state with another loop than `seen`: looks for a while, then sleeps. `None` when the team is over.
    fn next_loop(&self, seen: u64) -> Option<u64> {
        let found = || {
            let state = self.state.load(Ordering::SeqCst);
            (state / LOOP != seen).then_some(state)
        };
        for _ in 0..LOOKS {
            if let Some(state) = found() {
                return Some(state);
            }
            std::hint::spin_loop();
        }
        let mut asleep = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.num_asleep.fetch_add(1, Ordering::SeqCst);
        let state = loop {
            if self.stops.load(Ordering::SeqCst) {
                break None;
            }
            if let Some(state) = found() {
                break Some(state);
            }
            asleep = self.wake.wait(asleep).unwrap_or_else(PoisonError::into_inner);
        };
        self.num_asleep.fetch_sub(1, Ordering::SeqCst);
        state
    }

    fn wake_all(&self) {
        // With the lock, so that no thread is between its last look and its sleep.
        drop(self.asleep.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }
}

/// Where the share of a thread starts.
fn share(thread: usize, threads: usize, count: usize) -> usize {
    count * thread / threads
}

/// Waits a moment; a longer one after many, since the thread that is waited for may need this processor.
fn look(looks: &mut usize) {
    *looks += 1;
    if *looks < LOOKS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(team: Option<&Team>, count: usize, chunk: usize) -> Vec<usize> {
        let calls: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        let work = |index: usize| {
            calls[index].fetch_add(1, Ordering::Relaxed);
        };
        match team {
            Some(team) => team.install(|| for_each_index(count, chunk, &work)),
            None => for_each_index(count, chunk, &work),
        }
        calls.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn each_call_is_made_once() {
        for threads in [1, 2, 3, 8] {
            let team = Team::new(threads).unwrap();
            for round in 0..2_000 {
                let (count, chunk) = (round % 97, round % 5);
                assert_eq!(counted(Some(&team), count, chunk), vec![1; count], "{threads} {count} {chunk}");
            }
        }
        assert_eq!(counted(None, 10, 1), [1; 10]);
    }

    #[test]
    fn loops_within_and_beside_loops_are_run_by_their_own_threads() {
        let team = Team::new(3).unwrap();
        let calls = AtomicUsize::new(0);
        let inner = |_: usize| {
            calls.fetch_add(1, Ordering::Relaxed);
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| team.install(|| for_each_index(50, 1, &|_| for_each_index(10, 1, &inner))));
            }
        });
        assert_eq!(calls.into_inner(), 4 * 50 * 10);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_goes_on() {
        let team = Team::new(4).unwrap();
        for bad in [0, 57, 99] {
            let work = |index: usize| assert!(index != bad, "call {index}");
            let result = catch_unwind(AssertUnwindSafe(|| team.install(|| for_each_index(100, 1, &work))));
            let panic = result.unwrap_err();
            assert_eq!(panic.downcast_ref::<String>(), Some(&format!("call {bad}")));
            assert_eq!(counted(Some(&team), 100, 1), [1; 100]);
        }
    }

    #[test]
    fn threads_that_sleep_are_woken_and_end() {
        let team = Team::new(2).unwrap();
        while team.shared.num_asleep.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let both = std::sync::Barrier::new(2);
        team.install(|| {
            for_each_index(2, 1, &|_| {
                both.wait();
            });
        });
        drop(team);
    }
}
