//! The keys and values of all sequences, in blocks.

use candle_core::{Device, Tensor, WithDType};
use half::f16;
use half::vec::HalfBitsVecExt;

use super::spec::DecoderSpec;
use crate::error::LoadError;
use crate::kernels::{CacheDtype, HeadShape, LANES};

/// Tokens in a block.
pub(crate) const BLOCK_SIZE: usize = LANES;

/// One tensor of `num_blocks` blocks for each layer. Which block belongs to whom is the block pool's business.
#[derive(Debug)]
pub(crate) struct KvCache {
    pub(super) layers: Vec<Tensor>,
}

impl KvCache {
    /// An empty cache. Memory is taken from the system as blocks are first written.
    ///
    /// # Errors
    /// [`LoadError::InvalidOption`] if the system does not have that much.
    pub(crate) fn new(spec: &DecoderSpec, dtype: CacheDtype, num_blocks: usize) -> Result<Self, LoadError> {
        let numbers = num_blocks.saturating_mul(heads(spec).block_len());
        // Asking for a layer first tells whether it can be had; otherwise the process would end.
        if Vec::<u8>::new().try_reserve_exact(numbers.saturating_mul(dtype.size())).is_err() {
            let message = format!("the system does not give a layer {num_blocks} blocks of memory");
            return Err(LoadError::InvalidOption { option: "kv_cache_memory", message });
        }
        let layer = |_| match dtype {
            CacheDtype::F32 => aligned(vec![0f32; numbers + CACHE_LINE], numbers),
            // Only for integers does the standard library take zeros as the system has them.
            CacheDtype::F16 => aligned::<f16>(vec![0u16; numbers + CACHE_LINE].reinterpret_into(), numbers),
        };
        Ok(Self { layers: spec.layers.iter().map(layer).collect::<candle_core::Result<_>>()? })
    }

    /// The cache of a network that keeps nothing.
    pub(crate) fn empty() -> Self {
        Self { layers: Vec::new() }
    }

    /// Bytes that one block takes in all layers together.
    pub(crate) fn bytes_per_block(spec: &DecoderSpec, dtype: CacheDtype) -> usize {
        spec.layers.len() * heads(spec).block_len() * dtype.size()
    }
}

/// Bytes that the processor fetches at once.
const CACHE_LINE: usize = 64;

/// `count` of the numbers, of which there are `CACHE_LINE` more, from the start of a cache line on: a register's worth of
/// them is then one access to memory, not two.
fn aligned<T: WithDType>(numbers: Vec<T>, count: usize) -> candle_core::Result<Tensor> {
    let start = numbers.as_ptr().align_offset(CACHE_LINE).min(CACHE_LINE);
    let len = numbers.len();
    Tensor::from_vec(numbers, len, &Device::Cpu)?.narrow(0, start, count)
}

/// The attention heads of every layer.
pub(super) fn heads(spec: &DecoderSpec) -> HeadShape {
    HeadShape { num_heads: spec.num_attention_heads, num_kv_heads: spec.num_key_value_heads, head_dim: spec.head_dim }
}
