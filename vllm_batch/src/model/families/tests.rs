use serde_json::{Value, json};

use super::*;
use crate::kernels::Activation;
use crate::model::rope::{RopeScaling, RopeSpec};
use crate::model::spec::{Biases, FeedForwardSpec, LayerSpec, NormPlacement};
use crate::model::weights::Part;

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

/// Configurations of other families, each with what differs from the usual.
#[test]
fn families_refuse_what_they_do_not_have() {
    let cases = [
        ("mistral", json!({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}), "`layer_types`"),
        ("smollm3", json!({"no_rope_layers": [1, 0]}), "`no_rope_layers`"),
        ("qwen2", json!({"layer_types": ["full_attention"]}), "`layer_types`"),
        ("qwen3", json!({"layer_types": ["full_attention", "chunked_attention", "x"]}), "`layer_types`"),
        ("qwen3_moe", json!({"num_experts": 4, "num_experts_per_tok": 5}), "`num_experts_per_tok`"),
        ("qwen3_moe", json!({"num_experts": 1_000_000}), "`num_experts`"),
        (
            "qwen3_moe",
            json!({"num_experts": 4, "shared_expert_intermediate_size": 8}),
            "`shared_expert_intermediate_size`",
        ),
        ("gemma2", json!({"hidden_activation": "gelu"}), "`hidden_activation`"),
        ("gemma2", json!({"sliding_window": 0}), "`sliding_window`"),
        ("gemma2", json!({"sliding_window_size": 7}), "`sliding_window_size`"),
        ("gemma2", json!({"attn_logit_softcapping": -1.0}), "`attn_logit_softcapping`"),
        ("gemma3_text", json!({"use_bidirectional_attention": true}), "`use_bidirectional_attention`"),
        ("gemma3_text", json!({"rope_parameters": {"chunked_attention": {}}}), "rope_parameters.chunked_attention"),
        ("gemma3", json!({}), "`text_config`"),
        ("phi3", json!({"full_attn_mod": 2}), "`full_attn_mod`"),
        ("phi3", json!({"rope_scaling": {"type": "longrope", "long_factor": [1.0]}}), "rope_scaling.short_factor"),
        (
            "phi3",
            json!({"rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}}),
            "`short_factor`",
        ),
        ("olmo2", json!({"clip_qkv": 8.0}), "`clip_qkv`"),
        ("granite", json!({"logits_scaling": 0.0}), "`logits_scaling`"),
    ];
    for (model_type, mut changes, place) in cases {
        changes["model_type"] = json!(model_type);
        if model_type.starts_with("gemma") {
            changes.as_object_mut().unwrap().insert("hidden_act".to_owned(), json!("gelu_pytorch_tanh"));
        }
        let error = spec_with(changes.clone()).expect_err(place).to_string();
        assert!(error.contains(place), "{changes}: {error}");
    }
}

/// A file without tensors.
struct NoTensors;

impl TensorSource for NoTensors {
    fn shape(&self, _: &str) -> Option<Vec<usize>> {
        None
    }

    fn names(&self) -> Vec<&str> {
        Vec::new()
    }

    fn read_part(&self, name: &str, _: Part) -> Result<Vec<f32>, LoadError> {
        Err(LoadError::MissingTensor { tensor: name.to_owned() })
    }
}

fn gguf_spec_with(architecture: &str, changes: Value) -> Result<DecoderSpec, LoadError> {
    let mut values = json!({
        "vocab_size": 512, "context_length": 256, "embedding_length": 64, "block_count": 46, "feed_forward_length": 160,
        "attention.head_count": 8, "attention.key_length": 16, "attention.layer_norm_rms_epsilon": 1e-5,
    });
    let (Value::Object(values), Value::Object(changes)) = (&mut values, changes) else { panic!("two objects") };
    values.extend(changes);
    spec_from_gguf(architecture, &Config::new("", values), &NoTensors).map(|(spec, _)| spec)
}

#[test]
fn gguf_files_are_refused_for_what_is_not_implemented() {
    let cases = [
        ("mamba", json!({}), "mamba"),
        ("llama", json!({"expert_count": 8}), "`expert_count`"),
        ("llama", json!({"rope.scaling.type": "longrope"}), "`rope.scaling.type`"),
        ("llama", json!({"rope.scaling.attn_factor": 1.5}), "`rope.scaling.attn_factor`"),
        ("llama", json!({"attention.value_length": 8}), "`attention.value_length`"),
        ("llama", json!({"block_count": 0}), "`block_count`"),
        ("qwen2", json!({"expert_shared_count": 1}), "`expert_shared_count`"),
        ("qwen3moe", json!({}), "`expert_count`"),
        ("gemma3", json!({}), "`attention.sliding_window`"),
        ("phi3", json!({"rope.dimension_count": 15}), "`partial_rotary_factor`"),
    ];
    for (architecture, changes, place) in cases {
        let error = gguf_spec_with(architecture, changes.clone()).expect_err(place).to_string();
        assert!(error.contains(place), "{architecture} {changes}: {error}");
    }
}

#[test]
fn gguf_files_get_the_constants_that_llama_cpp_knows() {
    let gemma2 = |layers: usize| {
        gguf_spec_with("gemma2", json!({"attention.sliding_window": 32, "block_count": layers})).unwrap()
    };
    assert_eq!(gemma2(26).attention_scale, 0.25);
    assert_eq!(gemma2(46).attention_scale, 1.0 / 8f32.sqrt());
    let windows = gemma2(4).layers.iter().map(|layer| layer.window).collect::<Vec<_>>();
    assert_eq!(windows, [Some(32), None, Some(32), None]);
    let old_linear = gguf_spec_with("llama", json!({"rope.scaling.factor": 4.0})).unwrap();
    assert_eq!(old_linear.ropes[0].scaling, RopeScaling::Linear { factor: 4.0 });
    assert_eq!(old_linear.max_position_embeddings, 1024);
}

#[test]
fn contexts_are_as_long_as_their_scaling_makes_them() {
    let length = |changes| spec_with(changes).unwrap().max_position_embeddings;
    assert_eq!(length(json!({"max_position_embeddings": 4096})), 4096);
    let scaled = |kind: &str, more: Value| {
        let mut scaling = json!({"rope_type": kind, "factor": 4.0});
        scaling.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        length(json!({"max_position_embeddings": 4096, "rope_scaling": scaling}))
    };
    assert_eq!(scaled("linear", json!({})), 16_384);
    assert_eq!(scaled("dynamic", json!({})), 16_384);
    assert_eq!(scaled("yarn", json!({"original_max_position_embeddings": 2048})), 8192);
    let llama3 = json!({"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 1024});
    assert_eq!(scaled("llama3", llama3), 4096);
}
