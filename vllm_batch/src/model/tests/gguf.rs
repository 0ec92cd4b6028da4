//! The fixtures as the GGUF files that llama.cpp's converter would make of them.

use std::collections::HashMap;
use std::io::BufWriter;
use std::path::Path;

use candle_core::quantized::gguf_file::{Value as Field, write};
use candle_core::quantized::{GgmlDType, QTensor};
use serde_json::json;

use super::*;
use crate::model::families::spec_from_gguf;
use crate::model::files::architecture_values;
use crate::model::gguf::GgufFile;

/// A fixture and what its file says beyond the usual.
struct Case {
    fixture: &'static str,
    architecture: &'static str,
    /// Whether llama.cpp's converter reorders the rows of queries and keys for this architecture.
    reordered: bool,
    metadata: Value,
    /// What the format cannot say: changes to the configuration that make it what the file is.
    changes: Value,
}

fn case(fixture: &'static str, architecture: &'static str, metadata: Value) -> Case {
    let reordered = ["llama", "granite", "smollm3"].contains(&architecture);
    Case { fixture, architecture, reordered, metadata, changes: json!({}) }
}

fn cases() -> Vec<Case> {
    let yarn = json!({"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
                      "rope.scaling.original_context_length": 32, "rope.scaling.finetuned": true});
    let linear = json!({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0});
    let granite = json!({"attention.scale": 0.1, "embedding_scale": 6.0, "residual_scale": 0.3, "logit_scale": 0.8});
    let gemma2 =
        json!({"attention.sliding_window": 16, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0});
    let gemma3 = json!({"attention.sliding_window": 16, "rope.freq_base": 1e6});
    let longrope = json!({"rope.scaling.original_context_length": 32, "rope.scaling.attn_factor": 1.264_911_064_067_351_8,
                          "rope.dimension_count": 12, "attention.sliding_window": 50,
                          "attention.layer_norm_rms_epsilon": 1e-5});
    let moe = json!({"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 48});
    let no_window = json!({"use_sliding_window": false});
    vec![
        case("llama", "llama", json!({"expert_count": 0})),
        case("llama3_rope", "llama", json!({})),
        case("llama_linear_mha_biases", "llama", linear),
        case("mistral_swa", "llama", json!({"attention.sliding_window": 16})),
        case("mistral_mqa_head_dim", "llama", json!({"rope.freq_base": 1e6})),
        case("smollm3", "smollm3", json!({"rope.freq_base": 2e6})),
        case("qwen2", "qwen2", json!({})),
        Case { changes: no_window, ..case("qwen2_yarn_windows", "qwen2", yarn) },
        case("qwen3", "qwen3", json!({})),
        case("qwen3_moe", "qwen3moe", moe),
        Case { changes: json!({"query_pre_attn_scalar": 16}), ..case("gemma2", "gemma2", gemma2) },
        case("gemma3", "gemma3", gemma3),
        case("phi3", "phi3", json!({"attention.sliding_window": 0})),
        case("phi4_mini_long", "phi3", longrope),
        case("olmo2", "olmo2", json!({})),
        case("granite", "granite", granite),
    ]
}

#[test]
fn gguf_files_give_the_logits_of_the_safetensors_they_were_made_of() {
    let folder = tempfile::tempdir().unwrap();
    for case in cases() {
        let path = folder.path().join(format!("{}.gguf", case.fixture));
        let config = case.write(&path);
        let reference = decoder_with(case.fixture, &config);
        let token_ids: Vec<u32> = (0..70).map(|i| (i * 37 + 5) % reference.spec.vocab_size as u32).collect();
        let actual = logits(&open(&path, case.architecture), &token_ids, 1000);
        assert_close(&actual, &logits(&reference, &token_ids, 1000), case.fixture);
    }
}

/// Each architecture of the code has a case.
#[test]
fn every_architecture_is_tested() {
    let tested: Vec<_> = cases().iter().map(|case| case.architecture).collect();
    for family in crate::model::families::FAMILIES {
        assert!(tested.contains(&family.gguf_architecture), "{family:?}");
    }
}

/// The fixtures that have a case.
pub(super) fn fixtures() -> Vec<String> {
    cases().iter().map(|case| case.fixture.to_owned()).collect()
}

fn open(path: &Path, architecture: &str) -> Decoder {
    let file = GgufFile::open(path).unwrap();
    let values = architecture_values(&file, architecture);
    let (spec, names) = spec_from_gguf(architecture, &Config::new("", &values), &file).unwrap();
    let loader = WeightLoader { source: &file, names, dtype: WeightDtype::F32, head_dim: spec.head_dim };
    Decoder::load(spec, &loader, MAX_LEN).unwrap()
}

impl Case {
    /// Writes the file; returns the configuration that it stands for.
    fn write(&self, path: &Path) -> Map<String, Value> {
        let text = std::fs::read(fixture(self.fixture).join("config.json")).unwrap();
        let mut config: Map<String, Value> = serde_json::from_slice(&text).unwrap();
        config.extend(self.changes.as_object().unwrap().clone());
        let fields = self.fields(&config);
        let tensors = self.tensors(&config);
        let quantized =
            |(name, tensor): (&String, &Tensor)| (name.clone(), QTensor::quantize(tensor, GgmlDType::F32).unwrap());
        let tensors: Vec<_> = tensors.iter().map(quantized).collect();
        let fields: Vec<_> = fields.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        write(&mut BufWriter::new(std::fs::File::create(path).unwrap()), &fields, &tensors).unwrap();
        config
    }

    fn fields(&self, config: &Map<String, Value>) -> Vec<(String, Field)> {
        let size = |key: &str| config[key].as_u64().unwrap();
        let head_dim = config
            .get("head_dim")
            .map_or(size("hidden_size") / size("num_attention_heads"), |dim| dim.as_u64().unwrap());
        let mut values = json!({
            "vocab_size": size("vocab_size"),
            "context_length": size("max_position_embeddings"),
            "embedding_length": size("hidden_size"),
            "block_count": size("num_hidden_layers"),
            "feed_forward_length": size("intermediate_size"),
            "attention.head_count": size("num_attention_heads"),
            "attention.head_count_kv": size("num_key_value_heads"),
            "attention.key_length": head_dim,
            "attention.value_length": head_dim,
            "attention.layer_norm_rms_epsilon": config.get("rms_norm_eps").map_or(1e-6, |eps| eps.as_f64().unwrap()),
            "rope.dimension_count": head_dim,
        });
        let theta = config.get("rope_theta").or_else(|| config.get("rope_parameters")?.get("rope_theta"));
        values["rope.freq_base"] = theta.cloned().unwrap_or(json!(10_000.0));
        values.as_object_mut().unwrap().extend(self.metadata.as_object().unwrap().clone());
        let field = |(key, value): (&String, &Value)| {
            let field = match value {
                Value::Bool(flag) => Field::Bool(*flag),
                Value::String(text) => Field::String(text.clone()),
                value if value.is_u64() => Field::U32(value.as_u64().unwrap() as u32),
                value => Field::F32(value.as_f64().unwrap() as f32),
            };
            (format!("{}.{key}", self.architecture), field)
        };
        let own = values.as_object().unwrap().iter().map(field);
        let text = |text: &str| Field::String(text.to_owned());
        let general = [("general.architecture", self.architecture), ("tokenizer.ggml.model", "none")];
        general.into_iter().map(|(key, value)| (key.to_owned(), text(value))).chain(own).collect()
    }

    fn tensors(&self, config: &Map<String, Value>) -> HashMap<String, Tensor> {
        let source = load(fixture(self.fixture).join("model.safetensors"), &Device::Cpu).unwrap();
        let mut tensors = HashMap::new();
        let mut experts: HashMap<String, Vec<(usize, Tensor)>> = HashMap::new();
        for (name, tensor) in source {
            let (name, expert) = self.rename(&name);
            let tensor = self.convert(&name, tensor, config);
            match expert {
                Some(expert) => experts.entry(name).or_default().push((expert, tensor)),
                None => assert!(tensors.insert(name.clone(), tensor).is_none(), "{name}"),
            }
        }
        for (name, mut parts) in experts {
            parts.sort_by_key(|(expert, _)| *expert);
            let parts: Vec<_> = parts.into_iter().map(|(_, tensor)| tensor).collect();
            tensors.insert(name, Tensor::stack(&parts, 0).unwrap());
        }
        tensors.extend(rope_tensors(config));
        tensors
    }

    /// The name in a GGUF file, and the expert.
    fn rename(&self, name: &str) -> (String, Option<usize>) {
        let whole = [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("model.norm.weight", "output_norm.weight"),
            ("lm_head.weight", "output.weight"),
        ];
        if let Some((_, renamed)) = whole.iter().find(|(from, _)| *from == name) {
            return ((*renamed).to_owned(), None);
        }
        let (layer, rest) = name.strip_prefix("model.layers.").unwrap().split_once('.').unwrap();
        let (rest, expert) = match rest.strip_prefix("mlp.experts.") {
            Some(rest) => {
                let (expert, rest) = rest.split_once('.').unwrap();
                (format!("experts.{rest}"), Some(expert.parse().unwrap()))
            }
            None => (rest.to_owned(), None),
        };
        let (part, kind) = rest.rsplit_once('.').unwrap();
        let has_post_norms = ["gemma2", "gemma3", "olmo2"].contains(&self.architecture);
        let renamed = match part {
            "input_layernorm" => "attn_norm",
            "post_attention_layernorm" if has_post_norms => "post_attention_norm",
            "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
            "post_feedforward_layernorm" => "post_ffw_norm",
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.qkv_proj" => "attn_qkv",
            "self_attn.o_proj" => "attn_output",
            "self_attn.q_norm" => "attn_q_norm",
            "self_attn.k_norm" => "attn_k_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            "mlp.gate" => "ffn_gate_inp",
            "experts.gate_proj" => "ffn_gate_exps",
            "experts.up_proj" => "ffn_up_exps",
            "experts.down_proj" => "ffn_down_exps",
            other => panic!("{other}"),
        };
        (format!("blk.{layer}.{renamed}.{kind}"), expert)
    }

    fn convert(&self, name: &str, tensor: Tensor, config: &Map<String, Value>) -> Tensor {
        let is = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        if self.architecture.starts_with("gemma") && name.contains("norm") {
            return (tensor + 1.0).unwrap();
        }
        if !self.reordered || !is(&[".attn_q.", ".attn_k."]) {
            return tensor;
        }
        let key = if is(&[".attn_q."]) { "num_attention_heads" } else { "num_key_value_heads" };
        let heads = config[key].as_u64().unwrap() as usize;
        // As llama.cpp's converter: halves of a head become neighbours.
        let (rows, shape) = (tensor.dim(0).unwrap(), tensor.shape().clone());
        let split = tensor.reshape((heads, 2, rows / heads / 2, ())).unwrap();
        split.transpose(1, 2).unwrap().contiguous().unwrap().reshape(shape).unwrap()
    }
}

/// The tensors that the converter makes of `rope_scaling`.
fn rope_tensors(config: &Map<String, Value>) -> HashMap<String, Tensor> {
    let scaling = config.get("rope_scaling").filter(|scaling| !scaling.is_null()).cloned().unwrap_or_default();
    let vector = |numbers: Vec<f32>| Tensor::new(numbers, &Device::Cpu).unwrap();
    let listed = |key: &str| {
        let numbers = scaling.get(key)?.as_array()?;
        Some(vector(numbers.iter().map(|x| x.as_f64().unwrap() as f32).collect()))
    };
    let long = [("rope_factors_long.weight", "long_factor"), ("rope_factors_short.weight", "short_factor")];
    let mut tensors: HashMap<String, Tensor> =
        long.iter().filter_map(|(name, key)| Some(((*name).to_owned(), listed(key)?))).collect();
    if scaling.get("rope_type") == Some(&json!("llama3")) {
        let number = |key: &str| scaling[key].as_f64().unwrap();
        let (factor, low, high) = (number("factor"), number("low_freq_factor"), number("high_freq_factor"));
        let original = number("original_max_position_embeddings");
        let factors = (0..8).map(|i| {
            let wavelength = 2.0 * std::f64::consts::PI * 500_000f64.powf(f64::from(2 * i) / 16.0);
            let smooth = ((original / wavelength - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
        });
        tensors.insert("rope_freqs.weight".to_owned(), vector(factors.collect()));
    }
    tensors
}
