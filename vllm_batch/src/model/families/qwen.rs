//! Qwen 2, 2.5 and 3, dense and with experts.

use super::{Family, gguf, hugging_face};
use crate::error::LoadError;
use crate::model::config::Config;
use crate::model::spec::{DecoderSpec, ExpertsSpec, FeedForwardSpec, QkNormKind};
use crate::model::weights::TensorSource;

pub(super) const QWEN2: Family = Family {
    model_type: "qwen2",
    gguf_architecture: "qwen2",
    from_hugging_face: qwen2,
    from_gguf: gguf_qwen2,
    fused: false,
    gguf_interleaved: false,
    unit_offset: false,
    tensor_prefix: "",
};

pub(super) const QWEN3: Family = Family {
    model_type: "qwen3",
    gguf_architecture: "qwen3",
    from_hugging_face: qwen3,
    from_gguf: gguf_qwen3,
    ..QWEN2
};

pub(super) const QWEN3_MOE: Family = Family {
    model_type: "qwen3_moe",
    gguf_architecture: "qwen3moe",
    from_hugging_face: qwen3_moe,
    from_gguf: gguf_qwen3_moe,
    ..QWEN2
};

const DEFAULTS: hugging_face::Defaults =
    hugging_face::Defaults { max_position_embeddings: 32_768, ..hugging_face::COMMON };

const QWEN3_DEFAULTS: hugging_face::Defaults = hugging_face::Defaults { head_dim: Some(128), ..DEFAULTS };

const MOE_DEFAULTS: hugging_face::Defaults = hugging_face::Defaults { num_key_value_heads: Some(4), ..DEFAULTS };

fn qwen2(config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    let mut spec = dense(config, &DEFAULTS)?;
    spec.biases.qkv = true;
    Ok(spec)
}

fn qwen3(config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    let mut spec = dense(config, &QWEN3_DEFAULTS)?;
    hugging_face::attention_bias(config, &mut spec)?;
    spec.qk_norm = Some(QkNormKind::PerHead);
    Ok(spec)
}

/// Layers from `max_window_layers` on may have a window.
fn dense(config: &Config<'_>, defaults: &hugging_face::Defaults) -> Result<DecoderSpec, LoadError> {
    let mut spec = hugging_face::base(config, defaults)?;
    hugging_face::silu(config)?;
    let first = config.size_or("max_window_layers", 28)?;
    let window = window(config)?;
    hugging_face::windows(config, &mut spec, window, |i| i >= first)?;
    Ok(spec)
}

fn window(config: &Config<'_>) -> Result<Option<usize>, LoadError> {
    let window = config.size_or("sliding_window", 4096)?;
    Ok(config.flag_or("use_sliding_window", false)?.then_some(window))
}

fn qwen3_moe(config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    let mut spec = hugging_face::base(config, &MOE_DEFAULTS)?;
    hugging_face::silu(config)?;
    hugging_face::attention_bias(config, &mut spec)?;
    spec.qk_norm = Some(QkNormKind::PerHead);
    let window = window(config)?;
    hugging_face::windows(config, &mut spec, window, |_| true)?;
    // Transformers 5 renamed the key.
    let num_experts = config.optional_size("num_experts")?;
    let experts = ExpertsSpec {
        num_experts: config.size_or("num_local_experts", num_experts.unwrap_or(128))?,
        num_experts_per_tok: config.size_or("num_experts_per_tok", 8)?,
        intermediate_size: config.size_or("moe_intermediate_size", 768)?,
        norm_topk_prob: config.flag_or("norm_topk_prob", false)?,
    };
    let step = config.size_or("decoder_sparse_step", 1)?.max(1);
    let dense = config.sizes("mlp_only_layers")?.unwrap_or_default();
    for (i, layer) in spec.layers.iter_mut().enumerate() {
        if !dense.contains(&i) && (i + 1).is_multiple_of(step) {
            layer.feed_forward = FeedForwardSpec::Experts(experts.clone());
        }
    }
    Ok(spec)
}

fn gguf_qwen2(config: &Config<'_>, tensors: &dyn TensorSource) -> Result<DecoderSpec, LoadError> {
    gguf::base(config, tensors)
}

fn gguf_qwen3(config: &Config<'_>, tensors: &dyn TensorSource) -> Result<DecoderSpec, LoadError> {
    let mut spec = gguf::base(config, tensors)?;
    spec.qk_norm = Some(QkNormKind::PerHead);
    Ok(spec)
}

/// All layers have experts, and their weights add up to 1: files do not say so, it is llama.cpp's rule.
fn gguf_qwen3_moe(config: &Config<'_>, tensors: &dyn TensorSource) -> Result<DecoderSpec, LoadError> {
    let mut spec = gguf_qwen3(config, tensors)?;
    let experts = ExpertsSpec {
        num_experts: config.size("expert_count")?,
        num_experts_per_tok: config.size("expert_used_count")?,
        intermediate_size: config.size("expert_feed_forward_length")?,
        norm_topk_prob: true,
    };
    for layer in &mut spec.layers {
        layer.feed_forward = FeedForwardSpec::Experts(experts.clone());
    }
    Ok(spec)
}
