//! Llama 2 and 3, SmolLM2, TinyLlama and all that share their architecture.

use serde_json::{Value, json};

use super::Family;
use crate::error::LoadError;
use crate::model::config::Config;
use crate::model::spec::{DecoderSpec, RopeScaling};

pub(super) const FAMILY: Family =
    Family { model_types: &["llama"], gguf_architectures: &["llama"], from_hugging_face, from_gguf };

/// Keys of a `config.json` that do not change what the decoder computes.
const WITHOUT_EFFECT: &[&str] = &[
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "initializer_range",
    "is_llama_config",
    "model_type",
    "pad_token_id",
    "pretraining_tp",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_version",
    "unsloth_fixed",
    "use_cache",
];

fn from_hugging_face(config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    let (hidden_size, num_attention_heads) = (config.size("hidden_size")?, config.size("num_attention_heads")?);
    let (rope_theta, rope_scaling) = rope(config)?;
    let spec = DecoderSpec {
        vocab_size: config.size("vocab_size")?,
        hidden_size,
        intermediate_size: config.size("intermediate_size")?,
        num_hidden_layers: config.size("num_hidden_layers")?,
        num_attention_heads,
        num_key_value_heads: config.size_or("num_key_value_heads", num_attention_heads)?,
        head_dim: config.size_or("head_dim", hidden_size / num_attention_heads.max(1))?,
        rms_norm_eps: config.number_or("rms_norm_eps", 1e-6)? as f32,
        rope_theta,
        rope_scaling,
        max_position_embeddings: config.size_or("max_position_embeddings", 2048)?,
        attention_bias: config.flag_or("attention_bias", false)?,
        mlp_bias: config.flag_or("mlp_bias", false)?,
        tie_word_embeddings: config.flag_or("tie_word_embeddings", false)?,
    };
    config.only("hidden_act", &json!("silu"))?;
    config.only("rope_interleaved", &json!(false))?;
    config.without_effect(WITHOUT_EFFECT);
    config.finish()?;
    Ok(spec)
}

/// The rotary settings, in the style of transformers 5 (`rope_parameters`) or before (`rope_theta`, `rope_scaling`).
fn rope(config: &Config<'_>) -> Result<(f64, RopeScaling), LoadError> {
    if let Some(parameters) = config.object("rope_parameters", "rope_parameters.")? {
        config.only("rope_scaling", &Value::Null)?;
        let default = config.number_or("rope_theta", 10_000.0)?;
        return Ok((parameters.number_or("rope_theta", default)?, scaling(&parameters)?));
    }
    let theta = config.number_or("rope_theta", 10_000.0)?;
    let scaling = match config.object("rope_scaling", "rope_scaling.")? {
        Some(parameters) => scaling(&parameters)?,
        None => RopeScaling::None,
    };
    Ok((theta, scaling))
}

fn scaling(config: &Config<'_>) -> Result<RopeScaling, LoadError> {
    let kind = match config.get("rope_type").or_else(|| config.get("type")) {
        None => "default".to_owned(),
        Some(kind) => kind.as_str().map_or_else(|| kind.to_string(), str::to_owned),
    };
    config.without_effect(&["type"]);
    let scaling = match kind.as_str() {
        "default" => RopeScaling::None,
        "llama3" => RopeScaling::Llama3 {
            factor: config.number("factor")?,
            low_freq_factor: config.number("low_freq_factor")?,
            high_freq_factor: config.number("high_freq_factor")?,
            original_max_position_embeddings: config.size("original_max_position_embeddings")?,
        },
        other => return Err(config.unsupported("rope_type", format!("{other:?}; \"default\" and \"llama3\" are"))),
    };
    config.finish()?;
    Ok(scaling)
}

fn from_gguf(config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    let hidden_size = config.size("embedding_length")?;
    let num_attention_heads = config.size("attention.head_count")?;
    let head_dim = config.size_or("attention.key_length", hidden_size / num_attention_heads.max(1))?;
    config.only("attention.value_length", &json!(head_dim))?;
    config.only("rope.dimension_count", &json!(head_dim))?;
    config.only("rope.scaling.type", &json!("none"))?;
    config.only("expert_count", &json!(0))?;
    config.only("expert_used_count", &json!(0))?;
    let spec = DecoderSpec {
        vocab_size: config.size("vocab_size")?,
        hidden_size,
        intermediate_size: config.size("feed_forward_length")?,
        num_hidden_layers: config.size("block_count")?,
        num_attention_heads,
        num_key_value_heads: config.size_or("attention.head_count_kv", num_attention_heads)?,
        head_dim,
        rms_norm_eps: config.number("attention.layer_norm_rms_epsilon")? as f32,
        rope_theta: config.number_or("rope.freq_base", 10_000.0)?,
        rope_scaling: RopeScaling::None,
        max_position_embeddings: config.size("context_length")?,
        attention_bias: config.flag_or("attention.bias", false)?,
        mlp_bias: false,
        tie_word_embeddings: config.flag_or("tie_word_embeddings", false)?,
    };
    config.finish()?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::families::spec_from_hugging_face;

    fn base() -> Value {
        json!({"model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 160,
               "num_hidden_layers": 3, "num_attention_heads": 4, "rms_norm_eps": 1e-5, "hidden_act": "silu"})
    }

    fn spec_with(changes: Value) -> Result<DecoderSpec, LoadError> {
        let mut config = base();
        let (Value::Object(config), Value::Object(changes)) = (&mut config, changes) else { panic!("two objects") };
        config.extend(changes);
        spec_from_hugging_face(&Config::new("", config))
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let expected = DecoderSpec {
            vocab_size: 512,
            hidden_size: 64,
            intermediate_size: 160,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            head_dim: 16,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            max_position_embeddings: 2048,
            attention_bias: false,
            mlp_bias: false,
            tie_word_embeddings: false,
        };
        assert_eq!(spec_with(json!({})).unwrap(), expected);
    }

    #[test]
    fn old_and_new_rope_styles_agree() {
        let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                            "original_max_position_embeddings": 64});
        let old = spec_with(json!({"rope_theta": 500_000.0, "rope_scaling": llama3})).unwrap();
        let mut parameters = llama3;
        parameters["rope_theta"] = json!(500_000.0);
        let new = spec_with(json!({"rope_parameters": parameters})).unwrap();
        assert_eq!(old, new);
        parameters.as_object_mut().unwrap().remove("rope_theta");
        let mixed = spec_with(json!({"rope_theta": 500_000.0, "rope_parameters": parameters})).unwrap();
        assert_eq!(old, mixed);
        assert!(matches!(old.rope_scaling, RopeScaling::Llama3 { .. }));
    }

    #[test]
    fn what_is_unknown_or_broken_is_named() {
        let cases = [
            (json!({"model_type": "mamba"}), "unsupported_architecture", "mamba"),
            (json!({"model_type": 3}), "broken_config", "`model_type`"),
            (json!({"hidden_act": "gelu"}), "unsupported_config", "`hidden_act`"),
            (json!({"hidden_size": null}), "broken_config", "`hidden_size`"),
            (json!({"hidden_size": -64}), "broken_config", "`hidden_size`"),
            (json!({"hidden_size": 1e30}), "broken_config", "`hidden_size`"),
            (json!({"num_attention_heads": 0}), "broken_config", "`num_attention_heads`"),
            (json!({"num_key_value_heads": 3}), "broken_config", "`num_key_value_heads`"),
            (json!({"num_hidden_layers": 1_000_000_000_000_u64}), "broken_config", "`num_hidden_layers`"),
            (json!({"head_dim": 15}), "unsupported_config", "`head_dim`"),
            (json!({"head_dim": 512}), "unsupported_config", "`head_dim`"),
            (json!({"rms_norm_eps": -1.0}), "broken_config", "`rms_norm_eps`"),
            (json!({"rope_theta": 0.0}), "broken_config", "`rope_theta`"),
            (
                json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}),
                "unsupported_config",
                "rope_scaling.rope_type",
            ),
            (json!({"rope_scaling": {"rope_type": "llama3"}}), "broken_config", "rope_scaling.factor"),
            (json!({"rope_scaling": 7}), "broken_config", "`rope_scaling`"),
            (json!({"rope_scaling": {"rope_type": 7}}), "unsupported_config", "rope_scaling.rope_type"),
            (json!({"rope_parameters": {}, "rope_scaling": {}}), "unsupported_config", "`rope_scaling`"),
            (
                json!({"rope_scaling": {"rope_type": "llama3", "factor": 1e-50, "low_freq_factor": 1.0,
                       "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}),
                "broken_config",
                "`rope_scaling`",
            ),
            (json!({"sliding_window": 4096}), "unsupported_config", "`sliding_window`"),
            (json!({"quantization_config": {"bits": 4}}), "unsupported_config", "`quantization_config`"),
        ];
        for (changes, code, place) in cases {
            let error = spec_with(changes.clone()).expect_err(code);
            assert_eq!(error.code(), code, "{changes}");
            assert!(error.to_string().contains(place), "{changes}: {error}");
        }
        assert!(spec_with(json!({"sliding_window": null, "new_switch": false})).is_ok());
    }
}
