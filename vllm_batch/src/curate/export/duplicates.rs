//! Records that say the same.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::curate::hash::{FNV_OFFSET, fnv_1a};

/// When two texts say the same.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct DuplicateOptions {
    /// The least share of runs of words that two texts have in common, of all runs that either has (Jaccard index), from 0 to
    /// 1. At 1, only texts with the same runs are duplicates.
    pub threshold: f64,
    /// Words in a run. Shorter texts are one run.
    pub num_words: usize,
    /// Another seed may decide otherwise about texts near the threshold.
    pub seed: u64,
}

impl Default for DuplicateOptions {
    /// Four fifths of all runs of three words.
    fn default() -> Self {
        Self { threshold: 0.8, num_words: 3, seed: 0 }
    }
}

/// Another text that says the same.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Duplicate {
    /// Its name.
    pub of: String,
    /// How much the two have in common, from 0 to 1: 1 for texts that are equal but for case and white space, else estimated
    /// with a standard error of at most 0.05.
    pub similarity: f64,
}

/// Finds texts that say the same as one before: equal ones by their hash, others by `MinHash` with locality-sensitive
/// hashing (Broder 1997; Indyk and Motwani 1998). Memory grows by about a kilobyte for each text that is kept.
///
/// # Example
/// ```
/// use vllm_batch::curate::export::{DuplicateOptions, Duplicates};
///
/// let mut seen = Duplicates::new(DuplicateOptions::default());
/// assert_eq!(seen.insert("a", "Dear all, the board meets on Monday at nine."), None);
/// assert_eq!(seen.insert("b", "Lunch at noon?"), None);
/// let duplicate = seen.insert("c", "dear all,  the board meets on monday at nine.").expect("the same words");
/// assert_eq!((duplicate.of.as_str(), duplicate.similarity), ("a", 1.0));
/// ```
#[derive(Debug)]
pub struct Duplicates {
    options: DuplicateOptions,
    hashes: Hashes,
    num_rows: usize,
    ids: Vec<String>,
    signatures: Vec<Signature>,
    exact: HashMap<u64, u32>,
    bands: HashMap<(u32, u64), Vec<u32>>,
}

const NUM_HASHES: usize = 128;

/// How likely a pair at the threshold must be found.
const MIN_RECALL: f64 = 0.99;

/// The least value of each hash function over the runs of words of a text.
pub(super) type Signature = Box<[u32]>;

impl Duplicates {
    /// Nothing seen yet.
    pub fn new(options: DuplicateOptions) -> Self {
        Self {
            options,
            hashes: Hashes::new(options.seed),
            num_rows: rows_of_a_band(options.threshold),
            ids: Vec::new(),
            signatures: Vec::new(),
            exact: HashMap::new(),
            bands: HashMap::new(),
        }
    }

    /// Keeps a text, unless it says the same as one that was kept: that one comes back, the most similar if there are
    /// several.
    pub fn insert(&mut self, id: &str, text: &str) -> Option<Duplicate> {
        let words = normalised(text);
        let at = self.ids.len() as u32;
        let exact = hash_of(words.join(" ").as_bytes());
        match self.exact.entry(exact) {
            Entry::Occupied(same) => {
                return Some(Duplicate { of: self.ids[*same.get() as usize].clone(), similarity: 1.0 });
            }
            Entry::Vacant(free) => drop(free.insert(at)),
        }
        let signature = self.hashes.signature(&words, self.options.num_words);
        if let Some((near, similarity)) = self.nearest(&signature) {
            // What is equal to this text is a duplicate of the same one.
            self.exact.insert(exact, near);
            return Some(Duplicate { of: self.ids[near as usize].clone(), similarity });
        }
        for band in bands(&signature, self.num_rows) {
            self.bands.entry(band).or_default().push(at);
        }
        self.ids.push(id.to_owned());
        self.signatures.push(signature);
        None
    }

    fn nearest(&self, signature: &[u32]) -> Option<(u32, f64)> {
        let candidates = bands(signature, self.num_rows).filter_map(|band| self.bands.get(&band)).flatten();
        let alike = candidates.map(|at| (*at, similarity(&self.signatures[*at as usize], signature)));
        let alike = alike.filter(|(_, similarity)| *similarity >= self.options.threshold);
        alike.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
    }
}

/// The most rows of a band with which a pair at the threshold is still found.
fn rows_of_a_band(threshold: f64) -> usize {
    let recall = |rows: usize| {
        let bands = (NUM_HASHES / rows) as i32;
        1.0 - (1.0 - threshold.clamp(0.0, 1.0).powi(rows as i32)).powi(bands)
    };
    (1..=NUM_HASHES).rev().find(|rows| recall(*rows) >= MIN_RECALL).unwrap_or(1)
}

fn bands(signature: &[u32], num_rows: usize) -> impl Iterator<Item = (u32, u64)> {
    signature.chunks_exact(num_rows).enumerate().map(|(at, rows)| {
        let hash = rows.iter().fold(FNV_OFFSET, |hash, row| mixed(hash ^ u64::from(*row)));
        (at as u32, hash)
    })
}

/// The share of hash functions with the same least value: an estimate of the Jaccard index.
pub(super) fn similarity(a: &[u32], b: &[u32]) -> f64 {
    let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
    equal as f64 / NUM_HASHES as f64
}

/// Hash functions of a seed.
#[derive(Debug)]
pub(super) struct Hashes(Vec<(u64, u64)>);

impl Hashes {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        Self((0..NUM_HASHES).map(|_| (random.next_u64() | 1, random.next_u64())).collect())
    }

    /// The signature of words, by their runs.
    pub(super) fn signature(&self, words: &[String], num_words: usize) -> Signature {
        let mut least = vec![u32::MAX; NUM_HASHES].into_boxed_slice();
        let size = num_words.clamp(1, words.len().max(1));
        for run in words.windows(size) {
            let hash = run.iter().fold(FNV_OFFSET, |hash, word| mixed(hash ^ hash_of(word.as_bytes())));
            for (least, (factor, summand)) in least.iter_mut().zip(&self.0) {
                // The high bits of a product: multiply-shift hashing (Dietzfelbinger et al. 1997).
                *least = (*least).min((hash.wrapping_mul(*factor).wrapping_add(*summand) >> 32) as u32);
            }
        }
        least
    }
}

/// Words in lower case.
pub(super) fn normalised(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_lowercase).collect()
}

/// FNV-1a, mixed: the same on every machine.
fn hash_of(bytes: &[u8]) -> u64 {
    mixed(fnv_1a(FNV_OFFSET, bytes))
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood 2014).
fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}
