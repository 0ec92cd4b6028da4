//! The weights of one block.

use candle_core::Tensor;

use super::lora::LoraAdapter;
use super::projection::{Change, Projection};
use super::slots::{Slot, TensorNames};
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
    pub(super) qkv: Projection,
    /// Weights for queries and for keys.
    pub(super) qk_norm: Option<(Tensor, Tensor)>,
    pub(super) output: Projection,
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

impl FeedForward {
    /// Whether what it gets is multiplied with a quantised matrix. Experts take rows out of it first.
    pub(super) fn is_quantized(&self) -> bool {
        matches!(self, Self::Dense(network) if network.gate_up.is_quantized())
    }
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
    pub(super) gate_up: Projection,
    pub(super) down: Projection,
}

impl Layer {
    /// Reads and packs the weights of block `i`.
    ///
    /// # Errors
    /// If a tensor is missing, has a wrong shape, or cannot be read.
    pub(super) fn load(spec: &DecoderSpec, loader: &WeightLoader<'_>, i: usize) -> Result<Self, LoadError> {
        let hidden = spec.hidden_size;
        let q = spec.num_attention_heads * spec.head_dim;
        let qkv = &qkv_parts(spec, loader.names, i)[..];
        let (pre, post) = (spec.norms.has_pre(), spec.norms.has_post());
        let norm = |present: bool, slot| present.then(|| loader.norm(slot, hidden)).transpose();
        let layer = &spec.layers[i];
        Ok(Self {
            spec: layer.clone(),
            attention_norm: norm(pre, Slot::AttentionNorm(i))?,
            qkv: loader.matrix(qkv, hidden, spec.biases.qkv)?.into(),
            qk_norm: qk_norm(spec, loader, i)?,
            output: loader.matrix(&[(Slot::Output(i), hidden)], q, spec.biases.output)?.into(),
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

    /// Takes what one more adapter changes in block `i`. Returns how many of the block's matrices that are.
    ///
    /// # Errors
    /// If a tensor of the adapter cannot be read.
    pub(super) fn add_adapter(
        &mut self,
        (spec, names, i): (&DecoderSpec, TensorNames, usize),
        adapter: &LoraAdapter,
    ) -> Result<usize, LoadError> {
        let mut count = 0;
        let mut add = |projection: &mut Projection, parts: &[(Slot, usize)]| {
            let changes = changes(adapter, names, parts)?;
            count += changes.len();
            projection.add_adapter(changes);
            Ok::<_, LoadError>(())
        };
        add(&mut self.qkv, &qkv_parts(spec, names, i))?;
        add(&mut self.output, &[(Slot::Output(i), spec.hidden_size)])?;
        if let (FeedForward::Dense(network), FeedForwardSpec::Dense { intermediate_size }) =
            (&mut self.feed_forward, &self.spec.feed_forward)
        {
            add(&mut network.gate_up, &gate_up_parts(names, i, *intermediate_size))?;
            add(&mut network.down, &[(Slot::Down(i), spec.hidden_size)])?;
        }
        Ok(count)
    }
}

/// The parts of the first projection of attention, with their widths.
fn qkv_parts(spec: &DecoderSpec, names: TensorNames, i: usize) -> Vec<(Slot, usize)> {
    let (q, kv) = (spec.num_attention_heads * spec.head_dim, spec.num_key_value_heads * spec.head_dim);
    if names.fused {
        return vec![(Slot::Qkv(i), q + 2 * kv)];
    }
    vec![(Slot::Query(i), q), (Slot::Key(i), kv), (Slot::Value(i), kv)]
}

/// The parts of the first projection of a feed-forward layer, with their widths.
fn gate_up_parts(names: TensorNames, i: usize, inner: usize) -> Vec<(Slot, usize)> {
    if names.fused {
        return vec![(Slot::GateUp(i), 2 * inner)];
    }
    vec![(Slot::Gate(i), inner), (Slot::Up(i), inner)]
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
    let gate_up = &gate_up_parts(loader.names, i, inner)[..];
    Ok(Network {
        gate_up: loader.matrix(gate_up, spec.hidden_size, spec.biases.mlp)?.into(),
        down: loader.matrix(&[(Slot::Down(i), spec.hidden_size)], inner, spec.biases.mlp)?.into(),
    })
}

/// What an adapter changes in a matrix of parts that stand side by side in a product.
fn changes(adapter: &LoraAdapter, names: TensorNames, parts: &[(Slot, usize)]) -> Result<Vec<Change>, LoadError> {
    let columns = parts.iter().scan(0, |next, (_, width)| Some(std::mem::replace(next, *next + width)));
    let change = |((slot, _), column): (&(Slot, usize), usize)| adapter.change(&names.name(*slot), column).transpose();
    parts.iter().zip(columns).filter_map(change).collect()
}

fn experts(hidden: usize, loader: &WeightLoader<'_>, (i, spec): (usize, &ExpertsSpec)) -> Result<Experts, LoadError> {
    let inner = spec.intermediate_size;
    let network = |j| {
        let gate_up = [(Slot::ExpertGate(i, j), inner), (Slot::ExpertUp(i, j), inner)];
        Ok(Network {
            gate_up: loader.matrix(&gate_up, hidden, false)?.into(),
            down: loader.matrix(&[(Slot::ExpertDown(i, j), hidden)], inner, false)?.into(),
        })
    };
    Ok(Experts {
        spec: spec.clone(),
        router: loader.matrix(&[(Slot::Router(i), spec.num_experts)], hidden, false)?,
        networks: (0..spec.num_experts).map(network).collect::<Result<_, LoadError>>()?,
    })
}
