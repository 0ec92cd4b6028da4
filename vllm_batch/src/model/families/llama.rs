//! Llama 2 and 3, SmolLM2, TinyLlama and all that share their architecture.

use serde_json::Value;

use super::{Family, gguf, hugging_face};
use crate::error::LoadError;
use crate::model::config::Config;
use crate::model::spec::DecoderSpec;
use crate::model::weights::TensorSource;

pub(super) const FAMILY: Family = Family {
    model_type: "llama",
    gguf_architecture: "llama",
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
    config.only("sliding_window", &Value::Null)?;
    Ok(spec)
}

/// Also Mistral's files, which have this architecture's name.
pub(super) fn from_gguf(config: &Config<'_>, tensors: &dyn TensorSource) -> Result<DecoderSpec, LoadError> {
    let mut spec = gguf::base(config, tensors)?;
    gguf::no_experts(config)?;
    let window = config.optional_size("attention.sliding_window")?;
    spec.layers.iter_mut().for_each(|layer| layer.window = window);
    Ok(spec)
}
