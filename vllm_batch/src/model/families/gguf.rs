//! What the metadata of GGUF files of all families have in common
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>). Where it is silent, llama.cpp's own constants hold.

use serde_json::json;

use crate::error::LoadError;
use crate::kernels::Activation;
use crate::model::config::Config;
use crate::model::rope::{RopeScaling, RopeSpec, Yarn};
use crate::model::slots::Slot;
use crate::model::spec::{Biases, DecoderSpec, FeedForwardSpec, LayerSpec, NormPlacement};
use crate::model::weights::TensorSource;

/// A pre-norm decoder with dense, gated feed-forward layers, one rotary embedding and no windows, with the biases that
/// the file has: families change what is different about theirs.
pub(super) fn base(config: &Config<'_>, tensors: &dyn TensorSource) -> Result<DecoderSpec, LoadError> {
    let hidden_size = config.size("embedding_length")?;
    let num_attention_heads = config.size("attention.head_count")?;
    let head_dim = config.size_or("attention.key_length", hidden_size / num_attention_heads.max(1))?;
    config.only("attention.value_length", &json!(head_dim))?;
    let trained = config.size("context_length")?;
    let rope = rope(config, tensors, head_dim, trained)?;
    let dense = FeedForwardSpec::Dense { intermediate_size: config.size("feed_forward_length")? };
    let layer = LayerSpec { rope: Some(0), window: None, feed_forward: dense };
    let has = |slot: Slot| tensors.shape(&slot.gguf_name()).is_some();
    Ok(DecoderSpec {
        vocab_size: config.size("vocab_size")?,
        hidden_size,
        num_attention_heads,
        num_key_value_heads: config.size_or("attention.head_count_kv", num_attention_heads)?,
        head_dim,
        layers: vec![layer; config.num_layers("block_count")?],
        max_position_embeddings: rope.scaling.stretched(trained),
        ropes: vec![rope],
        norms: NormPlacement::Pre,
        rms_norm_eps: config.number("attention.layer_norm_rms_epsilon")? as f32,
        qk_norm: None,
        attention_scale: 1.0 / (head_dim as f32).sqrt(),
        attention_soft_cap: None,
        biases: Biases {
            qkv: has(Slot::QueryBias(0)) || has(Slot::QkvBias(0)),
            output: has(Slot::OutputBias(0)),
            mlp: has(Slot::UpBias(0)),
        },
        activation: Activation::Silu,
        embedding_multiplier: 1.0,
        residual_multiplier: 1.0,
        logits_divisor: 1.0,
        logit_soft_cap: None,
        tie_word_embeddings: !has(Slot::Head),
    })
}

/// Refuses files of a dense family that have experts.
pub(super) fn no_experts(config: &Config<'_>) -> Result<(), LoadError> {
    config.only("expert_count", &json!(0))?;
    config.only("expert_used_count", &json!(0))
}

fn rope(
    config: &Config<'_>,
    tensors: &dyn TensorSource,
    head_dim: usize,
    trained: usize,
) -> Result<RopeSpec, LoadError> {
    config.without_effect(&["rope.scaling.finetuned"]);
    Ok(RopeSpec {
        theta: config.number_or("rope.freq_base", 10_000.0)?,
        dim: config.size_or("rope.dimension_count", head_dim)?,
        scaling: scaling(config, tensors, trained)?,
    })
}

fn scaling(config: &Config<'_>, tensors: &dyn TensorSource, trained: usize) -> Result<RopeScaling, LoadError> {
    let original = config.size_or("rope.scaling.original_context_length", trained)?;
    let growth = config.number_or("rope.scaling.attn_factor", 1.0)?;
    if tensors.shape("rope_factors_long.weight").is_some() {
        config.only("rope.scaling.type", &json!("longrope"))?;
        return Ok(RopeScaling::LongRope {
            short_factor: tensors.read("rope_factors_short.weight")?,
            long_factor: tensors.read("rope_factors_long.weight")?,
            original_max_position_embeddings: original,
            attention_factor: growth,
        });
    }
    if tensors.shape("rope_freqs.weight").is_some() {
        config.only("rope.scaling.type", &json!("none"))?;
        return Ok(RopeScaling::Factors(tensors.read("rope_freqs.weight")?));
    }
    let kind = config.get("rope.scaling.type").and_then(|kind| kind.as_str()).unwrap_or("none").to_owned();
    let factor = config.number_or("rope.scaling.factor", 1.0)?;
    if kind != "yarn" && growth != 1.0 {
        return Err(config.unsupported("rope.scaling.attn_factor", format!("{growth} with the scaling {kind:?}")));
    }
    match kind.as_str() {
        // Files from before `rope.scaling.type` have the factor alone, which was linear.
        "none" if factor == 1.0 || factor == 0.0 => Ok(RopeScaling::None),
        "none" | "linear" => Ok(RopeScaling::Linear { factor }),
        "yarn" => Ok(RopeScaling::Yarn(Yarn {
            factor,
            beta_fast: config.number_or("rope.scaling.yarn_beta_fast", 32.0)?,
            beta_slow: config.number_or("rope.scaling.yarn_beta_slow", 1.0)?,
            truncate: true,
            original_max_position_embeddings: original,
            attention_factor: Yarn::default_attention_factor(factor, 1.0) * growth,
        })),
        other => Err(config.unsupported("rope.scaling.type", format!("{other:?}; none, linear and yarn are"))),
    }
}
