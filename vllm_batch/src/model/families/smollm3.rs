//! SmolLM3: some layers do not turn queries and keys.

use super::{Family, gguf, hugging_face};
use crate::error::LoadError;
use crate::model::config::Config;
use crate::model::spec::DecoderSpec;
use crate::model::weights::TensorSource;

pub(super) const FAMILY: Family = Family {
    model_type: "smollm3",
    gguf_architecture: "smollm3",
    from_hugging_face,
    from_gguf,
    fused: false,
    gguf_interleaved: true,
    unit_offset: false,
    tensor_prefix: "",
};

const DEFAULTS: hugging_face::Defaults = hugging_face::Defaults {
    num_key_value_heads: Some(4),
    max_position_embeddings: 32_768,
    rope_theta: 2_000_000.0,
    tie_word_embeddings: true,
    ..hugging_face::COMMON
};

/// Every such layer does not turn.
const NO_ROPE_INTERVAL: usize = 4;

fn from_hugging_face(config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    let mut spec = hugging_face::base(config, &DEFAULTS)?;
    hugging_face::silu(config)?;
    hugging_face::attention_bias(config, &mut spec)?;
    spec.biases.mlp = config.flag_or("mlp_bias", false)?;
    let interval = config.size_or("no_rope_layer_interval", NO_ROPE_INTERVAL)?.max(1);
    let turns = match config.sizes("no_rope_layers")? {
        Some(turns) if turns.len() < spec.layers.len() => {
            return Err(config.broken("no_rope_layers", format!("{} layers need as many entries", spec.layers.len())));
        }
        Some(turns) => turns.into_iter().map(|turns| turns != 0).collect(),
        None => every_but(interval, spec.layers.len()),
    };
    without_rope(&mut spec, &turns);
    let has_window = config.flag_or("use_sliding_window", false)?;
    let window = config.optional_size("sliding_window")?.filter(|_| has_window);
    hugging_face::windows(config, &mut spec, window, |i| !turns[i])?;
    Ok(spec)
}

fn from_gguf(config: &Config<'_>, tensors: &dyn TensorSource) -> Result<DecoderSpec, LoadError> {
    let mut spec = gguf::base(config, tensors)?;
    let turns = every_but(NO_ROPE_INTERVAL, spec.layers.len());
    without_rope(&mut spec, &turns);
    Ok(spec)
}

fn every_but(interval: usize, layers: usize) -> Vec<bool> {
    (1..=layers).map(|i| !i.is_multiple_of(interval)).collect()
}

fn without_rope(spec: &mut DecoderSpec, turns: &[bool]) {
    for (layer, turns) in spec.layers.iter_mut().zip(turns) {
        layer.rope = layer.rope.filter(|_| *turns);
    }
}
