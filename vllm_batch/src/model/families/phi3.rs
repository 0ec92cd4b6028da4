//! Phi-3, Phi-3.5 mini, Phi-4 and Phi-4-mini.

use serde_json::json;

use super::{Family, gguf, hugging_face};
use crate::error::LoadError;
use crate::model::config::Config;
use crate::model::spec::DecoderSpec;
use crate::model::weights::TensorSource;

pub(super) const FAMILY: Family = Family {
    model_type: "phi3",
    gguf_architecture: "phi3",
    from_hugging_face,
    from_gguf,
    fused: true,
    gguf_interleaved: false,
    unit_offset: false,
    tensor_prefix: "",
};

const DEFAULTS: hugging_face::Defaults =
    hugging_face::Defaults { rms_norm_eps: 1e-5, max_position_embeddings: 4096, ..hugging_face::COMMON };

fn from_hugging_face(config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    let mut spec = hugging_face::base(config, &DEFAULTS)?;
    hugging_face::silu(config)?;
    // Phi-4-mini's own code has these; transformers has one value for each.
    config.only("full_attn_mod", &json!(1))?;
    config.only("interpolate_factor", &json!(1))?;
    let window = config.optional_size("sliding_window")?;
    spec.layers.iter_mut().for_each(|layer| layer.window = window);
    Ok(spec)
}

/// A window of 0 is none. llama.cpp ignores the others; the models were trained with them.
fn from_gguf(config: &Config<'_>, tensors: &dyn TensorSource) -> Result<DecoderSpec, LoadError> {
    let mut spec = gguf::base(config, tensors)?;
    let window = config.optional_size("attention.sliding_window")?.filter(|window| *window > 0);
    spec.layers.iter_mut().for_each(|layer| layer.window = window);
    Ok(spec)
}
