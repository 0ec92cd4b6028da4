//! What a decoder computes, as data.

use super::rope::RopeSpec;
use crate::error::LoadError;
use crate::kernels::{Activation, MAX_HEAD_DIM};

/// The architecture of a decoder-only transformer: blocks of grouped-query attention and a gated feed-forward layer, each
/// joined to a residual stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DecoderSpec {
    /// Number of tokens in the vocabulary.
    pub(crate) vocab_size: usize,
    /// Width of the residual stream.
    pub(crate) hidden_size: usize,
    /// Query heads in each block.
    pub(crate) num_attention_heads: usize,
    /// Key and value heads in each block; divides `num_attention_heads`.
    pub(crate) num_key_value_heads: usize,
    /// Width of a head.
    pub(crate) head_dim: usize,
    /// The blocks, in which these may differ.
    pub(crate) layers: Vec<LayerSpec>,
    /// The rotary embeddings that layers choose from.
    pub(crate) ropes: Vec<RopeSpec>,
    /// Where normalisations stand.
    pub(crate) norms: NormPlacement,
    /// Added to the mean square in every normalisation.
    pub(crate) rms_norm_eps: f32,
    /// How queries and keys are normalised before they turn.
    pub(crate) qk_norm: Option<QkNormKind>,
    /// Factor of the attention scores.
    pub(crate) attention_scale: f32,
    /// Bound of the attention scores.
    pub(crate) attention_soft_cap: Option<f32>,
    /// Which projections have a bias.
    pub(crate) biases: Biases,
    /// What is done to the gates of the feed-forward layers.
    pub(crate) activation: Activation,
    /// Factor of the embeddings.
    pub(crate) embedding_multiplier: f32,
    /// Factor of what a layer adds to the residual stream.
    pub(crate) residual_multiplier: f32,
    /// Divisor of the logits.
    pub(crate) logits_divisor: f32,
    /// Bound of the logits.
    pub(crate) logit_soft_cap: Option<f32>,
    /// Whether the head is the embedding matrix.
    pub(crate) tie_word_embeddings: bool,
    /// The longest context that the model can have, in tokens: what it was trained on, or is stretched to.
    pub(crate) max_position_embeddings: usize,
}

/// Which projections have a bias. Experts have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Biases {
    /// Those of queries, keys and values.
    pub(crate) qkv: bool,
    /// That of what attention adds.
    pub(crate) output: bool,
    /// Those of dense feed-forward layers.
    pub(crate) mlp: bool,
}

/// What one block has of its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LayerSpec {
    /// Index into [`DecoderSpec::ropes`]; without one, queries and keys do not turn.
    pub(crate) rope: Option<usize>,
    /// Keys that a query sees: its own and those before it, so many in all.
    pub(crate) window: Option<usize>,
    /// The feed-forward layer.
    pub(crate) feed_forward: FeedForwardSpec,
}

/// The feed-forward layer of a block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FeedForwardSpec {
    /// One network.
    Dense {
        /// Its inner width.
        intermediate_size: usize,
    },
    /// Several networks, of which each token uses some.
    Experts(ExpertsSpec),
}

/// A feed-forward layer of experts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExpertsSpec {
    /// How many there are.
    pub(crate) num_experts: usize,
    /// How many each token uses.
    pub(crate) num_experts_per_tok: usize,
    /// Inner width of each.
    pub(crate) intermediate_size: usize,
    /// Whether the weights of a token's experts add up to 1.
    pub(crate) norm_topk_prob: bool,
}

/// Where a block normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NormPlacement {
    /// What attention and feed-forward layer read.
    Pre,
    /// What they add.
    Post,
    /// Both.
    Sandwich,
}

impl NormPlacement {
    /// Whether what a layer reads is normalised.
    pub(crate) fn has_pre(self) -> bool {
        self != Self::Post
    }

    /// Whether what a layer adds is normalised.
    pub(crate) fn has_post(self) -> bool {
        self != Self::Pre
    }
}

/// How queries and keys are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QkNormKind {
    /// Each head for itself.
    PerHead,
    /// All query heads together, and all key heads.
    Whole,
}

/// Far above any model, and far below what overflows when dimensions are multiplied.
const MAX_DIMENSION: usize = 1 << 24;
/// Every expert has a name for each of its tensors, so that a broken number must not take memory.
const MAX_EXPERTS: usize = 1024;

impl DecoderSpec {
    /// The tokens that each token sees, its own and those before it, if no layer shows it all of them.
    pub(crate) fn sliding_window(&self) -> Option<usize> {
        self.layers.iter().map(|layer| layer.window).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Checks that the dimensions fit each other.
    ///
    /// # Errors
    /// [`LoadError::BrokenConfig`] or [`LoadError::UnsupportedConfig`] for the first that does not.
    pub(crate) fn validate(&self) -> Result<(), LoadError> {
        if !self.head_dim.is_multiple_of(2) || self.head_dim > MAX_HEAD_DIM {
            let message = format!("{} is not an even number up to {MAX_HEAD_DIM}", self.head_dim);
            return Err(LoadError::UnsupportedConfig { key: "head_dim".to_owned(), message });
        }
        // Before the dimensions: the longest context follows from them.
        self.ropes.iter().try_for_each(|rope| rope.validate(self.head_dim))?;
        self.validate_dimensions()?;
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let message = format!("{} does not divide {}", self.num_key_value_heads, self.num_attention_heads);
            return Err(broken("num_key_value_heads", message));
        }
        self.validate_numbers()?;
        self.layers.iter().try_for_each(LayerSpec::validate)
    }

    fn validate_dimensions(&self) -> Result<(), LoadError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.layers.len()),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        sizes.iter().try_for_each(|(key, size)| dimension(key, *size))
    }

    fn validate_numbers(&self) -> Result<(), LoadError> {
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return Err(broken("rms_norm_eps", format!("{} is not a number from 0 up", self.rms_norm_eps)));
        }
        let factors = [
            ("the scale of attention", Some(self.attention_scale)),
            ("attn_logit_softcapping", self.attention_soft_cap),
            ("embedding_multiplier", Some(self.embedding_multiplier)),
            ("residual_multiplier", Some(self.residual_multiplier)),
            ("logits_scaling", Some(self.logits_divisor)),
            ("final_logit_softcapping", self.logit_soft_cap),
        ];
        let is_usable = |factor: f32| factor.is_finite() && factor > 0.0;
        match factors.into_iter().find(|(_, factor)| factor.is_some_and(|factor| !is_usable(factor))) {
            Some((key, factor)) => Err(broken(key, format!("{factor:?} is not a number above 0"))),
            None => Ok(()),
        }
    }
}

impl LayerSpec {
    fn validate(&self) -> Result<(), LoadError> {
        if self.window == Some(0) {
            return Err(broken("sliding_window", "a window of 0 tokens sees nothing".to_owned()));
        }
        match &self.feed_forward {
            FeedForwardSpec::Dense { intermediate_size } => dimension("intermediate_size", *intermediate_size),
            FeedForwardSpec::Experts(experts) => {
                if !(1..=MAX_EXPERTS).contains(&experts.num_experts) {
                    let message = format!("{} is not between 1 and {MAX_EXPERTS}", experts.num_experts);
                    return Err(broken("num_experts", message));
                }
                dimension("moe_intermediate_size", experts.intermediate_size)?;
                if (1..=experts.num_experts).contains(&experts.num_experts_per_tok) {
                    return Ok(());
                }
                let message = format!("{} of {} experts", experts.num_experts_per_tok, experts.num_experts);
                Err(broken("num_experts_per_tok", message))
            }
        }
    }
}

fn dimension(key: &str, size: usize) -> Result<(), LoadError> {
    if (1..=MAX_DIMENSION).contains(&size) {
        return Ok(());
    }
    Err(broken(key, format!("{size} is not between 1 and {MAX_DIMENSION}")))
}

fn broken(key: &str, message: String) -> LoadError {
    LoadError::BrokenConfig { key: key.to_owned(), message }
}
