//! Mistral 7B, Nemo and Small, with or without a sliding window.

use super::{Family, hugging_face, llama};
use crate::error::LoadError;
use crate::model::config::Config;
use crate::model::spec::DecoderSpec;

pub(super) const FAMILY: Family = Family {
    model_type: "mistral",
    gguf_architecture: "llama",
    from_hugging_face,
    from_gguf: llama::from_gguf,
    fused: false,
    gguf_interleaved: true,
    unit_offset: false,
    tensor_prefix: "",
};

const DEFAULTS: hugging_face::Defaults =
    hugging_face::Defaults { num_key_value_heads: Some(8), max_position_embeddings: 4096 * 32, ..hugging_face::COMMON };

fn from_hugging_face(config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    let mut spec = hugging_face::base(config, &DEFAULTS)?;
    hugging_face::silu(config)?;
    let window = config.optional_size("sliding_window")?;
    spec.layers.iter_mut().for_each(|layer| layer.window = window);
    Ok(spec)
}
