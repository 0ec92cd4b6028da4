//! Gemma 2, and the text part of Gemma 3.

use serde_json::json;

use super::{Family, gguf, hugging_face};
use crate::error::LoadError;
use crate::kernels::Activation;
use crate::model::config::Config;
use crate::model::rope::{RopeScaling, RopeSpec};
use crate::model::spec::{DecoderSpec, NormPlacement, QkNormKind};
use crate::model::weights::TensorSource;

pub(super) const GEMMA2: Family = Family {
    model_type: "gemma2",
    gguf_architecture: "gemma2",
    from_hugging_face: gemma2,
    from_gguf: gguf_gemma2,
    fused: false,
    gguf_interleaved: false,
    unit_offset: true,
    tensor_prefix: "",
};

pub(super) const GEMMA3: Family = Family {
    model_type: "gemma3_text",
    gguf_architecture: "gemma3",
    from_hugging_face: gemma3,
    from_gguf: gguf_gemma3,
    ..GEMMA2
};

/// Gemma 3 for texts and images: its text part.
pub(super) const GEMMA3_MULTIMODAL: Family =
    Family { model_type: "gemma3", from_hugging_face: gemma3_multimodal, tensor_prefix: "language_model.", ..GEMMA3 };

const GEMMA2_DEFAULTS: hugging_face::Defaults = hugging_face::Defaults {
    num_key_value_heads: Some(4),
    head_dim: Some(256),
    max_position_embeddings: 8192,
    tie_word_embeddings: true,
    ..hugging_face::COMMON
};

const GEMMA3_DEFAULTS: hugging_face::Defaults = hugging_face::Defaults {
    vocab_size: Some(262_208),
    num_attention_heads: Some(8),
    max_position_embeddings: 131_072,
    rope_theta: GLOBAL_THETA,
    local_rope_theta: Some(LOCAL_THETA),
    ..GEMMA2_DEFAULTS
};

const GLOBAL_THETA: f64 = 1_000_000.0;
const LOCAL_THETA: f64 = 10_000.0;
/// Of so many layers, the last has no window.
const GEMMA2_PATTERN: usize = 2;
const GEMMA3_PATTERN: usize = 6;

fn gemma2(config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    let mut spec = base(config, &GEMMA2_DEFAULTS, GEMMA2_PATTERN)?;
    spec.attention_soft_cap = soft_cap(config, "attn_logit_softcapping", 50.0)?;
    spec.logit_soft_cap = soft_cap(config, "final_logit_softcapping", 30.0)?;
    Ok(spec)
}

fn gemma3(config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    config.without_effect(&["_sliding_window_pattern"]);
    let pattern = config.size_or("sliding_window_pattern", GEMMA3_PATTERN)?;
    let mut spec = base(config, &GEMMA3_DEFAULTS, pattern)?;
    spec.attention_soft_cap = config.optional_number("attn_logit_softcapping")?.map(|cap| cap as f32);
    spec.logit_soft_cap = config.optional_number("final_logit_softcapping")?.map(|cap| cap as f32);
    spec.qk_norm = Some(QkNormKind::PerHead);
    // The length that the configuration names is the stretched one.
    let named = GEMMA3_DEFAULTS.max_position_embeddings;
    spec.max_position_embeddings = config.size_or("max_position_embeddings", named)?;
    use_local_rope(&mut spec);
    Ok(spec)
}

fn gemma3_multimodal(config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    let images = ["vision_config", "mm_tokens_per_image", "boi_token_index", "eoi_token_index", "image_token_index"];
    config.without_effect(&images);
    config.without_effect(&["boi_token_id", "eoi_token_id", "image_token_id", "tie_word_embeddings"]);
    config.without_effect(hugging_face::WITHOUT_EFFECT);
    let Some(text) = config.object("text_config", "text_config.")? else {
        return Err(config.broken("text_config", "it is missing".to_owned()));
    };
    let spec = gemma3(&text)?;
    text.finish()?;
    Ok(spec)
}

/// What both have in common; `pattern` decides which layers have a window where the configuration does not list them.
fn base(config: &Config<'_>, defaults: &hugging_face::Defaults, pattern: usize) -> Result<DecoderSpec, LoadError> {
    let mut spec = hugging_face::base(config, defaults)?;
    // Older configurations have a `hidden_act` too, which transformers does not read.
    config.without_effect(&["hidden_act"]);
    config.only("hidden_activation", &json!("gelu_pytorch_tanh"))?;
    config.only("use_bidirectional_attention", &json!(false))?;
    hugging_face::attention_bias(config, &mut spec)?;
    spec.attention_scale = 1.0 / (config.number_or("query_pre_attn_scalar", 256.0)? as f32).sqrt();
    let window = config.size_or("sliding_window", 4096)?;
    config.only("sliding_window_size", &json!(window))?;
    hugging_face::windows(config, &mut spec, Some(window), |i| slides(i, pattern))?;
    gemma(&mut spec);
    Ok(spec)
}

/// A cap that a null turns off, and whose absence does not.
fn soft_cap(config: &Config<'_>, key: &str, default: f32) -> Result<Option<f32>, LoadError> {
    if config.has(key) {
        return Ok(config.optional_number(key)?.map(|cap| cap as f32));
    }
    Ok(Some(default))
}

fn slides(layer: usize, pattern: usize) -> bool {
    !(layer + 1).is_multiple_of(pattern.max(1))
}

fn gemma(spec: &mut DecoderSpec) {
    spec.norms = NormPlacement::Sandwich;
    spec.activation = Activation::GeluTanh;
    spec.embedding_multiplier = (spec.hidden_size as f32).sqrt();
}

/// Layers with a window have the second rotary embedding.
fn use_local_rope(spec: &mut DecoderSpec) {
    for layer in spec.layers.iter_mut().filter(|layer| layer.window.is_some()) {
        layer.rope = Some(1);
    }
}

fn gguf_gemma2(config: &Config<'_>, tensors: &dyn TensorSource) -> Result<DecoderSpec, LoadError> {
    let mut spec = gguf_base(config, tensors, (GEMMA2_PATTERN, 46))?;
    spec.attention_soft_cap = Some(config.number_or("attn_logit_softcapping", 50.0)? as f32);
    spec.logit_soft_cap = Some(config.number_or("final_logit_softcapping", 30.0)? as f32);
    Ok(spec)
}

fn gguf_gemma3(config: &Config<'_>, tensors: &dyn TensorSource) -> Result<DecoderSpec, LoadError> {
    let pattern = config.size_or("attention.sliding_window_pattern", GEMMA3_PATTERN)?;
    let mut spec = gguf_base(config, tensors, (pattern, 62))?;
    spec.logit_soft_cap = config.optional_number("final_logit_softcapping")?.map(|cap| cap as f32);
    spec.qk_norm = Some(QkNormKind::PerHead);
    spec.max_position_embeddings = config.size("context_length")?;
    let theta = config.number_or("rope.freq_base_swa", LOCAL_THETA)?;
    spec.ropes.push(RopeSpec { theta, dim: spec.head_dim, scaling: RopeScaling::None });
    use_local_rope(&mut spec);
    Ok(spec)
}

/// Files do not name the scale of attention: llama.cpp knows the 27B models by their number of layers.
fn gguf_base(
    config: &Config<'_>,
    tensors: &dyn TensorSource,
    (pattern, layers_of_27b): (usize, usize),
) -> Result<DecoderSpec, LoadError> {
    let mut spec = gguf::base(config, tensors)?;
    if spec.layers.len() == layers_of_27b {
        spec.attention_scale = 1.0 / (spec.hidden_size as f32 / spec.num_attention_heads.max(1) as f32).sqrt();
    }
    let window = config.size("attention.sliding_window")?;
    for (i, layer) in spec.layers.iter_mut().enumerate() {
        layer.window = Some(window).filter(|_| slides(i, pattern));
    }
    gemma(&mut spec);
    Ok(spec)
}
