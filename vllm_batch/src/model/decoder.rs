//! The network: packed weights, and one forward pass over any mix of sequences.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::cache::{KvCache, heads};
use super::families::Slot;
use super::input::ModelInput;
use super::spec::DecoderSpec;
use super::weights::WeightLoader;
use crate::error::LoadError;
use crate::kernels::{
    Attention, HeadShape, Isa, KvWrite, PackedMatrix, RotaryTable, embed, linear, linear_add, rms_norm, rms_norm_rows,
    rotate_queries, swiglu,
};

/// The weights of a model. Immutable: what belongs to sequences lives in the [`KvCache`].
#[derive(Debug)]
pub(crate) struct Decoder {
    pub(super) spec: DecoderSpec,
    embedding: PackedMatrix,
    layers: Vec<Layer>,
    final_norm: Tensor,
    /// The head, unless the embedding is the head.
    head: Option<PackedMatrix>,
    rotary: RotaryTable,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Tensor,
    /// Query, key and value projections, one below the other.
    qkv: PackedMatrix,
    output: PackedMatrix,
    feed_forward_norm: Tensor,
    /// Gate and up projections, one below the other.
    gate_up: PackedMatrix,
    down: PackedMatrix,
}

impl Decoder {
    /// Reads and packs the weights, layers in parallel on the current thread pool. Positions from `max_model_len` on
    /// cannot be computed.
    ///
    /// # Errors
    /// If a tensor is missing, has a wrong shape, or cannot be read.
    pub(super) fn load(
        spec: DecoderSpec,
        loader: &WeightLoader<'_>,
        max_model_len: usize,
    ) -> std::result::Result<Self, LoadError> {
        loader.check_all_used(&spec)?;
        let (vocab, hidden) = (spec.vocab_size, spec.hidden_size);
        let embedding = loader.matrix(&[(Slot::Embedding, vocab)], hidden, false)?;
        let head =
            if spec.tie_word_embeddings { None } else { Some(loader.matrix(&[(Slot::Head, vocab)], hidden, false)?) };
        let final_norm = loader.vector(Slot::FinalNorm, hidden)?;
        let layers = (0..spec.num_hidden_layers).into_par_iter().map(|i| Layer::load(&spec, loader, i));
        let layers = layers.collect::<std::result::Result<_, _>>()?;
        let rotary = RotaryTable::new(&spec.inv_freq(), max_model_len);
        Ok(Self { spec, embedding, layers, final_norm, head, rotary })
    }

    /// Computes the input's tokens, writes their keys and values into `cache`, and returns the last hidden states of the
    /// tokens of `input` whose [`logits`](Self::logits) are wanted: shape `[rows, hidden_size]`.
    ///
    /// # Errors
    /// If the input does not fit the cache: a mistake of the caller.
    pub(crate) fn forward(&self, input: &ModelInput, cache: &mut KvCache) -> Result<Tensor> {
        let mut x = embed(&input.token_ids, &self.embedding)?;
        for (layer, kv) in self.layers.iter().zip(&mut cache.layers) {
            x = self.layer(layer, &x, input, kv)?;
        }
        rms_norm_rows(&x, &input.logit_rows, &self.final_norm, self.spec.rms_norm_eps)
    }

    /// The logits that belong to hidden states, of shape `[rows, vocab_size]`. A row's bits do not depend on the others.
    ///
    /// # Errors
    /// If the hidden states are of another model.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        linear(hidden, self.head.as_ref().unwrap_or(&self.embedding))
    }

    fn layer(&self, layer: &Layer, x: &Tensor, input: &ModelInput, kv: &mut Tensor) -> Result<Tensor> {
        let (heads, eps) = (heads(&self.spec), self.spec.rms_norm_eps);
        let qkv = linear(&rms_norm(x, &layer.attention_norm, eps)?, &layer.qkv)?;
        let attended = self.attend(&qkv, input, kv, heads)?;
        let x = linear_add(&attended, &layer.output, x)?;
        let gated = swiglu(&linear(&rms_norm(&x, &layer.feed_forward_norm, eps)?, &layer.gate_up)?)?;
        linear_add(&gated, &layer.down, &x)
    }

    /// Writes keys and values first, for all sequences: a block that one sequence fills in this step can be read by
    /// another one in the same step.
    fn attend(&self, qkv: &Tensor, input: &ModelInput, kv: &mut Tensor, heads: HeadShape) -> Result<Tensor> {
        let (positions, table) = (&input.positions, &self.rotary);
        kv.inplace_op2(qkv, &KvWrite { positions, slots: &input.slots, heads, table })?;
        let queries = rotate_queries(qkv, positions, heads, table)?;
        let scale = 1.0 / (heads.head_dim as f32).sqrt();
        queries.apply_op2_no_bwd(kv, &Attention { spans: &input.spans, heads, scale, isa: Isa::detect() })
    }
}

impl Layer {
    fn load(spec: &DecoderSpec, loader: &WeightLoader<'_>, i: usize) -> std::result::Result<Self, LoadError> {
        let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
        let (q, kv) = (spec.num_attention_heads * spec.head_dim, spec.num_key_value_heads * spec.head_dim);
        let qkv = [(Slot::Query(i), q), (Slot::Key(i), kv), (Slot::Value(i), kv)];
        Ok(Self {
            attention_norm: loader.vector(Slot::AttentionNorm(i), hidden)?,
            qkv: loader.matrix(&qkv, hidden, spec.attention_bias)?,
            output: loader.matrix(&[(Slot::Output(i), hidden)], q, spec.attention_bias)?,
            feed_forward_norm: loader.vector(Slot::FeedForwardNorm(i), hidden)?,
            gate_up: loader.matrix(&[(Slot::Gate(i), inner), (Slot::Up(i), inner)], hidden, spec.mlp_bias)?,
            down: loader.matrix(&[(Slot::Down(i), hidden)], inner, spec.mlp_bias)?,
        })
    }
}
