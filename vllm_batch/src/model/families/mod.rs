//! Which architectures are known, and what do they call their tensors?

mod llama;

use super::config::Config;
use super::spec::DecoderSpec;
use crate::error::LoadError;

/// A family of models: how its configurations map to a [`DecoderSpec`].
pub(super) struct Family {
    /// `model_type` in a Hugging Face `config.json`.
    model_types: &'static [&'static str],
    /// `general.architecture` in a GGUF file.
    gguf_architectures: &'static [&'static str],
    from_hugging_face: fn(&Config<'_>) -> Result<DecoderSpec, LoadError>,
    from_gguf: fn(&Config<'_>) -> Result<DecoderSpec, LoadError>,
}

const FAMILIES: &[Family] = &[llama::FAMILY];

/// Reads a Hugging Face configuration.
///
/// # Errors
/// If the family is unknown, or the configuration is broken or asks for what is not implemented.
pub(super) fn spec_from_hugging_face(config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    let model_type = config.string("model_type")?;
    let family = find(&model_type, |family| family.model_types)?;
    checked((family.from_hugging_face)(config)?)
}

/// Reads the metadata of a GGUF file, given as the part below `{architecture}.`.
///
/// # Errors
/// As [`spec_from_hugging_face`].
pub(super) fn spec_from_gguf(architecture: &str, config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    let family = find(architecture, |family| family.gguf_architectures)?;
    checked((family.from_gguf)(config)?)
}

fn find(name: &str, names: impl Fn(&Family) -> &'static [&'static str]) -> Result<&'static Family, LoadError> {
    FAMILIES.iter().find(|family| names(family).contains(&name)).ok_or_else(|| LoadError::UnsupportedArchitecture {
        architecture: name.to_owned(),
        supported: FAMILIES.iter().flat_map(names).copied().collect(),
    })
}

fn checked(spec: DecoderSpec) -> Result<DecoderSpec, LoadError> {
    spec.validate()?;
    Ok(spec)
}

/// A place in the decoder that a tensor fills; layers count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Embedding,
    FinalNorm,
    Head,
    AttentionNorm(usize),
    Query(usize),
    Key(usize),
    Value(usize),
    Output(usize),
    FeedForwardNorm(usize),
    Gate(usize),
    Up(usize),
    Down(usize),
    /// The bias of the projection that has this name without its last part.
    QueryBias(usize),
    KeyBias(usize),
    ValueBias(usize),
    OutputBias(usize),
    GateBias(usize),
    UpBias(usize),
    DownBias(usize),
}

impl Slot {
    /// Every slot of a decoder.
    pub(super) fn all(spec: &DecoderSpec) -> impl Iterator<Item = Self> {
        let (attention_bias, mlp_bias) = (spec.attention_bias, spec.mlp_bias);
        let attention = [Self::Query, Self::Key, Self::Value, Self::Output];
        let feed_forward = [Self::Gate, Self::Up, Self::Down];
        let layer = move |i: usize| {
            let norms = [Self::AttentionNorm(i), Self::FeedForwardNorm(i)];
            let weights = attention.into_iter().chain(feed_forward).map(move |slot| slot(i));
            let biased = attention.into_iter().filter(move |_| attention_bias);
            let biases =
                biased.chain(feed_forward.into_iter().filter(move |_| mlp_bias)).map(move |slot| slot(i).bias());
            norms.into_iter().chain(weights).chain(biases)
        };
        let head = (!spec.tie_word_embeddings).then_some(Self::Head);
        [Self::Embedding, Self::FinalNorm].into_iter().chain(head).chain((0..spec.num_hidden_layers).flat_map(layer))
    }

    /// The bias that belongs to a projection; other slots have none and stay what they are.
    pub(super) fn bias(self) -> Self {
        match self {
            Self::Query(i) => Self::QueryBias(i),
            Self::Key(i) => Self::KeyBias(i),
            Self::Value(i) => Self::ValueBias(i),
            Self::Output(i) => Self::OutputBias(i),
            Self::Gate(i) => Self::GateBias(i),
            Self::Up(i) => Self::UpBias(i),
            Self::Down(i) => Self::DownBias(i),
            other => other,
        }
    }
}

/// The names of tensors in a format, and how it orders rotary pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TensorNames {
    /// `model.layers.0.self_attn.q_proj.weight`; pairs are `(i, i + head_dim / 2)`.
    HuggingFace,
    /// `blk.0.attn_q.weight`; the llama family's pairs are `(2i, 2i + 1)`.
    Gguf,
}

impl TensorNames {
    /// The name of the tensor for a slot.
    pub(super) fn name(self, slot: Slot) -> String {
        match self {
            Self::HuggingFace => hugging_face_name(slot),
            Self::Gguf => gguf_name(slot),
        }
    }

    /// Whether the rows of this slot come as neighbouring rotary pairs.
    pub(super) fn interleaves(self, slot: Slot) -> bool {
        use Slot::{Key, KeyBias, Query, QueryBias};
        self == Self::Gguf && matches!(slot, Query(_) | Key(_) | QueryBias(_) | KeyBias(_))
    }
}

fn hugging_face_name(slot: Slot) -> String {
    let (layer, part) = match slot {
        Slot::Embedding => return "model.embed_tokens.weight".to_owned(),
        Slot::FinalNorm => return "model.norm.weight".to_owned(),
        Slot::Head => return "lm_head.weight".to_owned(),
        Slot::AttentionNorm(i) => (i, "input_layernorm.weight"),
        Slot::Query(i) => (i, "self_attn.q_proj.weight"),
        Slot::Key(i) => (i, "self_attn.k_proj.weight"),
        Slot::Value(i) => (i, "self_attn.v_proj.weight"),
        Slot::Output(i) => (i, "self_attn.o_proj.weight"),
        Slot::FeedForwardNorm(i) => (i, "post_attention_layernorm.weight"),
        Slot::Gate(i) => (i, "mlp.gate_proj.weight"),
        Slot::Up(i) => (i, "mlp.up_proj.weight"),
        Slot::Down(i) => (i, "mlp.down_proj.weight"),
        Slot::QueryBias(i) => (i, "self_attn.q_proj.bias"),
        Slot::KeyBias(i) => (i, "self_attn.k_proj.bias"),
        Slot::ValueBias(i) => (i, "self_attn.v_proj.bias"),
        Slot::OutputBias(i) => (i, "self_attn.o_proj.bias"),
        Slot::GateBias(i) => (i, "mlp.gate_proj.bias"),
        Slot::UpBias(i) => (i, "mlp.up_proj.bias"),
        Slot::DownBias(i) => (i, "mlp.down_proj.bias"),
    };
    format!("model.layers.{layer}.{part}")
}

fn gguf_name(slot: Slot) -> String {
    let (layer, part) = match slot {
        Slot::Embedding => return "token_embd.weight".to_owned(),
        Slot::FinalNorm => return "output_norm.weight".to_owned(),
        Slot::Head => return "output.weight".to_owned(),
        Slot::AttentionNorm(i) => (i, "attn_norm.weight"),
        Slot::Query(i) => (i, "attn_q.weight"),
        Slot::Key(i) => (i, "attn_k.weight"),
        Slot::Value(i) => (i, "attn_v.weight"),
        Slot::Output(i) => (i, "attn_output.weight"),
        Slot::FeedForwardNorm(i) => (i, "ffn_norm.weight"),
        Slot::Gate(i) => (i, "ffn_gate.weight"),
        Slot::Up(i) => (i, "ffn_up.weight"),
        Slot::Down(i) => (i, "ffn_down.weight"),
        Slot::QueryBias(i) => (i, "attn_q.bias"),
        Slot::KeyBias(i) => (i, "attn_k.bias"),
        Slot::ValueBias(i) => (i, "attn_v.bias"),
        Slot::OutputBias(i) => (i, "attn_output.bias"),
        Slot::GateBias(i) => (i, "ffn_gate.bias"),
        Slot::UpBias(i) => (i, "ffn_up.bias"),
        Slot::DownBias(i) => (i, "ffn_down.bias"),
    };
    format!("blk.{layer}.{part}")
}
