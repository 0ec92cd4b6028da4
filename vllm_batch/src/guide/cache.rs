//! Grammars, each compiled once.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use llguidance::Matcher;

use super::{
    calls::Calls,
    compile::{compile, key_of},
    vocabulary::Vocabulary,
    watch::Trigger,
};
use crate::{
    error::RequestError,
    request::{ChatOptions, StructuredOutput},
    text::ToolCallFormat,
};

/// A format that was checked and compiled for a vocabulary.
///
/// It is immutable and may be shared by threads in an [`Arc`].
pub struct CompiledGrammar {
    vocabulary: Arc<Vocabulary>,
    start: Matcher,
    num_bytes: usize,
    /// Absent where answers are held to the grammar from their beginning.
    trigger: Option<Trigger>,
}

impl CompiledGrammar {
    pub(super) fn new(vocabulary: Arc<Vocabulary>, start: Matcher, num_bytes: usize) -> Self {
        Self { vocabulary, start, num_bytes, trigger: None }
    }

    pub(super) fn with_trigger(self, trigger: Option<Trigger>) -> Self {
        Self { trigger, ..self }
    }

    /// From what on answers are held to the grammar, if not from their beginning.
    pub(super) fn trigger(&self) -> Option<&Trigger> {
        self.trigger.as_ref()
    }

    /// The vocabulary that it was compiled for.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// About how much memory it takes.
    pub fn num_bytes(&self) -> usize {
        self.num_bytes
    }

    /// The beginning of an answer, which shares nothing that changes.
    pub(super) fn start(&self) -> Matcher {
        self.start.deep_clone()
    }
}

impl fmt::Debug for CompiledGrammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledGrammar").field("num_bytes", &self.num_bytes).finish_non_exhaustive()
    }
}

/// The compiled grammars of an engine, shared by all requests with equal formats.
///
/// It keeps what was used last, up to limits on number and memory; what is still in use lives on outside it. Formats that
/// cannot be compiled are remembered, too.
///
/// # Example
/// ```no_run
/// # fn example(vocabulary: std::sync::Arc<vllm_batch::guide::Vocabulary>) -> Result<(), vllm_batch::RequestError> {
/// use vllm_batch::{StructuredOutput, guide::{Constraint, GrammarCache}};
///
/// let cache = GrammarCache::new(vocabulary);
/// let mut constraint = Constraint::new(cache.compile(&StructuredOutput::choice(["yes", "no"]))?);
/// let mut logits = vec![0.0; cache.vocabulary().len()];
/// constraint.mask()?.apply(&mut logits);
/// # Ok(())
/// # }
/// ```
pub struct GrammarCache {
    vocabulary: Arc<Vocabulary>,
    max_grammars: usize,
    max_bytes: usize,
    entries: Mutex<Entries>,
}

/// The hash of a format.
pub(super) type Key = [u8; 32];
type Compiled = Result<Arc<CompiledGrammar>, RequestError>;

#[derive(Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    clock: u64,
    num_bytes: usize,
}

struct Entry {
    /// Empty while it is compiled.
    compiled: Arc<OnceLock<Compiled>>,
    last_used: u64,
    num_bytes: usize,
}

/// Memory of an entry that holds an error.
const ERROR_BYTES: usize = 1024;

impl GrammarCache {
    /// An empty cache for 1024 grammars and 256 MiB.
    pub fn new(vocabulary: Arc<Vocabulary>) -> Self {
        Self::with_limits(vocabulary, 1024, 256 << 20)
    }

    /// An empty cache for at most `max_grammars` grammars and about `max_bytes` bytes.
    pub fn with_limits(vocabulary: Arc<Vocabulary>, max_grammars: usize, max_bytes: usize) -> Self {
        Self { vocabulary, max_grammars, max_bytes, entries: Mutex::default() }
    }

    /// The vocabulary that grammars are compiled for.
    pub fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    /// Compiles a format, or finds what was compiled before. When several threads ask for one format at the same time,
    /// one compiles it, and the others wait.
    ///
    /// # Errors
    /// * [`RequestError::InvalidParam`] for a list of choices that is empty or names one twice, and for options that do
    ///   not fit the format.
    /// * [`RequestError::InvalidGrammar`] when the format cannot be compiled, with the place in a JSON Schema.
    pub fn compile(&self, format: &StructuredOutput) -> Compiled {
        self.get(key_of(format), || compile(&self.vocabulary, format))
    }

    /// Compiles the calls of `chat`'s tools, or finds what was compiled before. Where a call is required, answers are
    /// nothing but calls; otherwise they are free until a call begins.
    ///
    /// # Errors
    /// [`RequestError::InvalidGrammar`] when the parameters of a tool cannot be compiled, with the place in their schema.
    pub fn compile_calls(&self, format: &ToolCallFormat, chat: &ChatOptions) -> Compiled {
        let calls = Calls::new(format, chat);
        self.get(calls.key(), || calls.compile(&self.vocabulary))
    }

    fn get(&self, key: Key, compile: impl FnOnce() -> Result<CompiledGrammar, RequestError>) -> Compiled {
        let slot = self.slot(key);
        let compiled = slot.get_or_init(|| {
            let compiled = compile().map(Arc::new);
            self.account(key, &slot, compiled.as_ref().map_or(ERROR_BYTES, |grammar| grammar.num_bytes()));
            compiled
        });
        compiled.clone()
    }

    /// How many grammars are kept, and about how much memory they take.
    pub fn size(&self) -> (usize, usize) {
        let entries = self.lock();
        (entries.by_key.len(), entries.num_bytes)
    }

    /// The place for a grammar, found or made.
    fn slot(&self, key: Key) -> Arc<OnceLock<Compiled>> {
        let mut entries = self.lock();
        entries.clock += 1;
        let now = entries.clock;
        let entry = entries.by_key.entry(key).or_insert_with(|| Entry {
            compiled: Arc::default(),
            last_used: now,
            num_bytes: 0,
        });
        entry.last_used = now;
        Arc::clone(&entry.compiled)
    }

    /// Adds the size of a new grammar, and drops those that were not used for longest if it is too much.
    fn account(&self, key: Key, slot: &Arc<OnceLock<Compiled>>, num_bytes: usize) {
        let mut entries = self.lock();
        if let Some(entry) = entries.by_key.get_mut(&key).filter(|entry| Arc::ptr_eq(&entry.compiled, slot)) {
            entry.num_bytes = num_bytes;
            entries.num_bytes += num_bytes;
        }
        while entries.by_key.len() > self.max_grammars || entries.num_bytes > self.max_bytes {
            let oldest = entries.by_key.iter().min_by_key(|(_, entry)| entry.last_used).map(|(key, _)| *key);
            let Some(entry) = oldest.and_then(|key| entries.by_key.remove(&key)) else { break };
            entries.num_bytes -= entry.num_bytes;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for GrammarCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (grammars, num_bytes) = self.size();
        f.debug_struct("GrammarCache").field("grammars", &grammars).field("num_bytes", &num_bytes).finish()
    }
}
