//! A step that is like those before it takes next to no memory from the system.

#[path = "../../examples/demo_model/mod.rs"]
mod demo_model;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use vllm_batch::{EngineCore, LocalEngine, Prompt, Request, SamplingParams};

/// Counts while it is told to.
struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

fn count(size: usize) {
    if COUNTS.load(Ordering::Relaxed) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(size, Ordering::Relaxed);
        LARGEST.fetch_max(size, Ordering::Relaxed);
    }
}

// SAFETY: everything is the system's own doing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn add(core: &mut EngineCore, index: u32, len: u32) {
    let prompt = (0..len).map(|i| 1000 + (i * 7919 + index * 104_729) % 40_000).collect();
    let params = SamplingParams::greedy().with_max_tokens(40).with_ignore_eos(true);
    core.add_request(Request::new(index.to_string(), Prompt::TokenIds(prompt)).with_sampling_params(params))
        .expect("a good request");
}

/// Calls, bytes and the largest call of one step.
fn step(core: &mut EngineCore) -> (usize, usize, usize) {
    for counter in [&CALLS, &BYTES, &LARGEST] {
        counter.store(0, Ordering::Relaxed);
    }
    COUNTS.store(true, Ordering::Relaxed);
    let events = core.step().expect("a step");
    COUNTS.store(false, Ordering::Relaxed);
    drop(events);
    (CALLS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed), LARGEST.load(Ordering::Relaxed))
}

#[test]
fn a_decode_step_takes_no_memory_for_its_numbers() {
    let builder = LocalEngine::builder(demo_model::gguf().unwrap()).max_num_seqs(8).max_model_len(256);
    let builder = builder.threads(1).enable_prefix_caching(false).speculative_config(None);
    let mut core = builder.build_core().unwrap();
    for index in 0..8 {
        add(&mut core, index, 30);
    }
    // The prompts, and a step like those to come.
    (0..4).for_each(|_| drop(core.step().unwrap()));
    for _ in 0..10 {
        let (calls, bytes, largest) = step(&mut core);
        // What is left is lists, texts and events. The hidden states of all rows would be larger than the largest part of
        // it, and one layer's gates larger than all of it.
        let (hidden, gates) = (8 * 576 * 4, 8 * 2 * 1536 * 4);
        assert!(largest < hidden && bytes < gates, "{calls} calls, {bytes} bytes, at most {largest}");
    }
}
