//! Granite 3: Llama with factors for embeddings, scores, layers and logits.

use super::{Family, gguf, hugging_face};
use crate::error::LoadError;
use crate::model::config::Config;
use crate::model::spec::DecoderSpec;
use crate::model::weights::TensorSource;

pub(super) const FAMILY: Family = Family {
    model_type: "granite",
    gguf_architecture: "granite",
    from_hugging_face,
    from_gguf,
    fused: false,
    gguf_interleaved: true,
    unit_offset: false,
    tensor_prefix: "",
};

fn from_hugging_face(config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    let mut spec = hugging_face::base(config, &hugging_face::COMMON)?;
    hugging_face::silu(config)?;
    hugging_face::attention_bias(config, &mut spec)?;
    spec.biases.mlp = config.flag_or("mlp_bias", false)?;
    spec.embedding_multiplier = config.number_or("embedding_multiplier", 1.0)? as f32;
    spec.residual_multiplier = config.number_or("residual_multiplier", 1.0)? as f32;
    spec.attention_scale = config.number_or("attention_multiplier", 1.0)? as f32;
    spec.logits_divisor = config.number_or("logits_scaling", 1.0)? as f32;
    Ok(spec)
}

/// Without a scale, attention has its usual one, as in llama.cpp.
fn from_gguf(config: &Config<'_>, tensors: &dyn TensorSource) -> Result<DecoderSpec, LoadError> {
    let mut spec = gguf::base(config, tensors)?;
    gguf::no_experts(config)?;
    spec.embedding_multiplier = config.number_or("embedding_scale", 1.0)? as f32;
    spec.residual_multiplier = config.number_or("residual_scale", 1.0)? as f32;
    spec.attention_scale = config.number_or("attention.scale", f64::from(spec.attention_scale))? as f32;
    spec.logits_divisor = config.number_or("logit_scale", 1.0)? as f32;
    Ok(spec)
}
