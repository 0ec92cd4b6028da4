//! The weights of one block.

use candle_core::Tensor;

use super::slots::Slot;
use super::spec::{DecoderSpec, ExpertsSpec, FeedForwardSpec, LayerSpec, QkNormKind};
use super::weights::WeightLoader;
use crate::error::LoadError;
use crate::kernels::PackedMatrix;

/// One block. Weights of normalisations are absent where it does not normalise.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) spec: LayerSpec,
    pub(super) attention_norm: Option<Tensor>,
    /// Query, key and value projections, one below the other.
    pub(super) qkv: PackedMatrix,
    /// Weights for queries and for keys.
    pub(super) qk_norm: Option<(Tensor, Tensor)>,
    pub(super) output: PackedMatrix,
    pub(super) post_attention_norm: Option<Tensor>,
    pub(super) feed_forward_norm: Option<Tensor>,
    pub(super) feed_forward: FeedForward,
    pub(super) post_feed_forward_norm: Option<Tensor>,
}

/// The feed-forward layer of a block.
#[derive(Debug)]
pub(super) enum FeedForward {
    Dense(Network),
    Experts(Experts),
}

/// Networks of which each token uses some.
#[derive(Debug)]
pub(super) struct Experts {
    pub(super) spec: ExpertsSpec,
    /// Scores the networks.
    pub(super) router: PackedMatrix,
    pub(super) networks: Vec<Network>,
}

/// A gated network of two layers.
#[derive(Debug)]
pub(super) struct Network {
    /// Gate and up projections, one below the other.
    pub(super) gate_up: PackedMatrix,
    pub(super) down: PackedMatrix,
}

impl Layer {
    /// Reads and packs the weights of block `i`.
    ///
    /// # Errors
    /// If a tensor is missing, has a wrong shape, or cannot be read.
    pub(super) fn load(spec: &DecoderSpec, loader: &WeightLoader<'_>, i: usize) -> Result<Self, LoadError> {
        let hidden = spec.hidden_size;
        let (q, kv) = (spec.num_attention_heads * spec.head_dim, spec.num_key_value_heads * spec.head_dim);
        let parts = [(Slot::Query(i), q), (Slot::Key(i), kv), (Slot::Value(i), kv)];
        let fused = [(Slot::Qkv(i), q + 2 * kv)];
        let qkv = if loader.names.fused { &fused[..] } else { &parts[..] };
        let (pre, post) = (spec.norms.has_pre(), spec.norms.has_post());
        let norm = |present: bool, slot| present.then(|| loader.norm(slot, hidden)).transpose();
        let layer = &spec.layers[i];
        Ok(Self {
            spec: layer.clone(),
            attention_norm: norm(pre, Slot::AttentionNorm(i))?,
            qkv: loader.matrix(qkv, hidden, spec.biases.qkv)?,
            qk_norm: qk_norm(spec, loader, i)?,
            output: loader.matrix(&[(Slot::Output(i), hidden)], q, spec.biases.output)?,
            post_attention_norm: norm(post, Slot::PostAttentionNorm(i))?,
            feed_forward_norm: norm(pre, Slot::FeedForwardNorm(i))?,
            feed_forward: match &layer.feed_forward {
                FeedForwardSpec::Dense { intermediate_size } => {
                    FeedForward::Dense(dense(spec, loader, (i, *intermediate_size))?)
                }
                FeedForwardSpec::Experts(spec) => FeedForward::Experts(experts(hidden, loader, (i, spec))?),
            },
            post_feed_forward_norm: norm(post, Slot::PostFeedForwardNorm(i))?,
        })
    }
}

fn qk_norm(spec: &DecoderSpec, loader: &WeightLoader<'_>, i: usize) -> Result<Option<(Tensor, Tensor)>, LoadError> {
    let Some(kind) = spec.qk_norm else { return Ok(None) };
    let width = |heads: usize| match kind {
        QkNormKind::PerHead => spec.head_dim,
        QkNormKind::Whole => heads * spec.head_dim,
    };
    let queries = loader.norm(Slot::QueryNorm(i), width(spec.num_attention_heads))?;
    let keys = loader.norm(Slot::KeyNorm(i), width(spec.num_key_value_heads))?;
    Ok(Some((queries, keys)))
}

fn dense(spec: &DecoderSpec, loader: &WeightLoader<'_>, (i, inner): (usize, usize)) -> Result<Network, LoadError> {
    let fused = [(Slot::GateUp(i), 2 * inner)];
    let parts = [(Slot::Gate(i), inner), (Slot::Up(i), inner)];
    let gate_up = if loader.names.fused { &fused[..] } else { &parts[..] };
    Ok(Network {
        gate_up: loader.matrix(gate_up, spec.hidden_size, spec.biases.mlp)?,
        down: loader.matrix(&[(Slot::Down(i), spec.hidden_size)], inner, spec.biases.mlp)?,
    })
}

fn experts(hidden: usize, loader: &WeightLoader<'_>, (i, spec): (usize, &ExpertsSpec)) -> Result<Experts, LoadError> {
    let inner = spec.intermediate_size;
    let network = |j| {
        let gate_up = [(Slot::ExpertGate(i, j), inner), (Slot::ExpertUp(i, j), inner)];
        Ok(Network {
            gate_up: loader.matrix(&gate_up, hidden, false)?,
            down: loader.matrix(&[(Slot::ExpertDown(i, j), hidden)], inner, false)?,
        })
    };
    Ok(Experts {
        spec: spec.clone(),
        router: loader.matrix(&[(Slot::Router(i), spec.num_experts)], hidden, false)?,
        networks: (0..spec.num_experts).map(network).collect::<Result<_, LoadError>>()?,
    })
}
