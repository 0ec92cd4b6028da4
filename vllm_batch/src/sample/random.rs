//! Random numbers that depend on seed and position alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// A seed for a request that has none: it depends on the engine's seed and the request's id, so that a request gets the
/// same answer whenever it runs, and two requests get different random numbers. It never changes between versions.
///
/// # Example
/// ```
/// use vllm_batch::sample::derive_seed;
///
/// assert_eq!(derive_seed(0, "row-1"), derive_seed(0, "row-1"));
/// assert_ne!(derive_seed(0, "row-1"), derive_seed(0, "row-2"));
/// assert_ne!(derive_seed(0, "row-1"), derive_seed(1, "row-1"));
/// ```
#[must_use]
pub fn derive_seed(engine_seed: u64, request_id: &str) -> u64 {
    let digest = Sha256::new().chain_update(engine_seed.to_le_bytes()).chain_update(request_id).finalize();
    u64::from_le_bytes(std::array::from_fn(|index| digest[index]))
}

/// The seed of one of several answers to a request with this seed. The first answer has the seed itself, so that it is
/// the answer that there would be without the others. It never changes between versions.
#[must_use]
pub fn answer_seed(seed: u64, index: u64) -> u64 {
    if index == 0 { seed } else { derive_seed(seed, &format!("answer {index}")) }
}

/// A random number below `bound`, the same for the same seed and position. Each has the same probability to 1 part in
/// 2⁶⁴ of the whole.
pub(super) fn random_below(seed: u64, position: u64, bound: u64) -> u64 {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(position);
    ((u128::from(generator.next_u64()) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_change_between_versions() {
        assert_eq!(derive_seed(0, ""), 8_794_265_229_978_523_055);
        assert_eq!(derive_seed(7, "row-1"), 17_069_995_180_945_804_172);
        let seeds = [0, 1, 2].map(|index| answer_seed(7, index));
        assert_eq!(seeds, [7, 11_901_380_441_636_992_246, 11_281_657_099_403_388_089]);
        let drawn = [(0, 0), (0, 1), (1, 0), (u64::MAX, 1 << 40)].map(|(seed, at)| random_below(seed, at, 1 << 32));
        assert_eq!(drawn, [3_045_455_719, 3_244_981_007, 1_728_662_762, 4_129_058_718]);
    }
}
