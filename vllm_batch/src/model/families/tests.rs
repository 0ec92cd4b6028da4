use serde_json::{Value, json};

use super::*;
use crate::kernels::Activation;
use crate::model::rope::{RopeScaling, RopeSpec};
use crate::model::spec::{Biases, FeedForwardSpec, LayerSpec, NormPlacement};

fn base() -> Value {
    json!({"model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 160,
           "num_hidden_layers": 3, "num_attention_heads": 4, "rms_norm_eps": 1e-5, "hidden_act": "silu"})
}

fn spec_with(changes: Value) -> Result<DecoderSpec, LoadError> {
    let mut config = base();
    let (Value::Object(config), Value::Object(changes)) = (&mut config, changes) else { panic!("two objects") };
    config.extend(changes);
    spec_from_hugging_face(&Config::new("", config)).map(|(spec, _)| spec)
}

#[test]
fn defaults_are_those_of_transformers() {
    let feed_forward = FeedForwardSpec::Dense { intermediate_size: 160 };
    let expected = DecoderSpec {
        vocab_size: 512,
        hidden_size: 64,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        head_dim: 16,
        layers: vec![LayerSpec { rope: Some(0), window: None, feed_forward }; 3],
        ropes: vec![RopeSpec { theta: 10_000.0, dim: 16, scaling: RopeScaling::None }],
        norms: NormPlacement::Pre,
        rms_norm_eps: 1e-5,
        qk_norm: None,
        attention_scale: 0.25,
        attention_soft_cap: None,
        biases: Biases::default(),
        activation: Activation::Silu,
        embedding_multiplier: 1.0,
        residual_multiplier: 1.0,
        logits_divisor: 1.0,
        logit_soft_cap: None,
        tie_word_embeddings: false,
        max_position_embeddings: 2048,
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
    assert!(matches!(old.ropes[0].scaling, RopeScaling::Llama3 { .. }));
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
        (json!({"rope_scaling": {"rope_type": "proportional"}}), "unsupported_config", "rope_scaling.rope_type"),
        (json!({"rope_scaling": {"rope_type": "linear", "factor": 0}}), "broken_config", "`rope_scaling`"),
        (json!({"rope_scaling": {"rope_type": "linear", "factor": 2, "x": 1}}), "unsupported_config", "rope_scaling.x"),
        (json!({"rope_parameters": {"full_attention": {}}}), "unsupported_config", "rope_parameters.full_attention"),
        (json!({"partial_rotary_factor": 0.2}), "broken_config", "`partial_rotary_factor`"),
        (json!({"layer_types": ["full_attention"]}), "unsupported_config", "`layer_types`"),
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
