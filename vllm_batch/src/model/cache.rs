//! The keys and values of all sequences, in blocks.

use candle_core::{DType, Device, Tensor};

use super::spec::DecoderSpec;
use crate::error::LoadError;
use crate::kernels::{HeadShape, LANES};

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
    pub(crate) fn new(spec: &DecoderSpec, num_blocks: usize) -> Result<Self, LoadError> {
        // Asking for a layer first tells whether it can be had; candle would end the process.
        if Vec::<f32>::new().try_reserve_exact(num_blocks.saturating_mul(heads(spec).block_len())).is_err() {
            let message = format!("the system does not give a layer {num_blocks} blocks of memory");
            return Err(LoadError::InvalidOption { option: "kv_cache_memory", message });
        }
        let layer = || Tensor::zeros(num_blocks * heads(spec).block_len(), DType::F32, &Device::Cpu);
        Ok(Self { layers: spec.layers.iter().map(|_| layer()).collect::<candle_core::Result<_>>()? })
    }

    /// The cache of a network that keeps nothing.
    pub(crate) fn empty() -> Self {
        Self { layers: Vec::new() }
    }

    /// Bytes that one block takes in all layers together.
    pub(crate) fn bytes_per_block(spec: &DecoderSpec) -> usize {
        spec.layers.len() * heads(spec).block_len() * size_of::<f32>()
    }
}

/// The attention heads of every layer.
pub(super) fn heads(spec: &DecoderSpec) -> HeadShape {
    HeadShape { num_heads: spec.num_attention_heads, num_kv_heads: spec.num_key_value_heads, head_dim: spec.head_dim }
}
