//! LoRA adapters on the tiny model: merged, and beside each other in the same steps.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value as Field};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::safetensors::{load, save};
use candle_core::{DType, Device, Tensor};
use common::{BLOCK, builder, model};
use futures::StreamExt;
use futures::executor::block_on;
use serde_json::{Value, json};
use tempfile::TempDir;
use vllm_batch::{
    BatchEngine, BatchEngineExt, BatchRunner, EngineBuilder, Label, LoadError, LocalEngine, OutputEvent, PoolingParams,
    PoolingType, Request, RequestError, SamplingParams, ScoringParams,
};

const ALL: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];
const PREFIX: &str = "base_model.model.";

fn weights() -> HashMap<String, Tensor> {
    load(model().join("model.safetensors"), &Device::Cpu).unwrap()
}

/// Numbers between -0.3 and 0.3 that follow from the seed.
fn numbers(shape: (usize, usize), seed: usize) -> Tensor {
    let number = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 2003.0 * 0.6 - 0.3;
    Tensor::from_vec((0..shape.0 * shape.1).map(number).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
}

fn config(rank: usize) -> Value {
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "tiny", "bias": "none", "r": rank,
        "lora_alpha": 16, "lora_dropout": 0.1, "fan_in_fan_out": false, "target_modules": ["q_proj"],
        "inference_mode": true, "init_lora_weights": true, "modules_to_save": null, "use_rslora": false, "use_dora": false,
        "rank_pattern": {}, "alpha_pattern": {}, "loftq_config": {}, "megatron_core": "megatron.core", "revision": null
    })
}

/// The two halves of the changes of these modules in all layers, by PEFT's names.
fn halves(modules: &[&str], rank: usize, seed: usize) -> HashMap<String, Tensor> {
    let weights = weights();
    let mut halves = HashMap::new();
    for layer in 0..3 {
        for (i, module) in modules.iter().enumerate() {
            let name = format!("model.layers.{layer}.{module}");
            let (rows, depth) = weights[&format!("{name}.weight")].dims2().unwrap();
            let seed = seed * 1000 + layer * 100 + i;
            halves.insert(format!("{PREFIX}{name}.lora_A.weight"), numbers((rank, depth), seed));
            halves.insert(format!("{PREFIX}{name}.lora_B.weight"), numbers((rows, rank), seed + 50));
        }
    }
    halves
}

fn write(config: &Value, halves: &HashMap<String, Tensor>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    save(halves, folder.path().join("adapter_model.safetensors")).unwrap();
    folder
}

/// Of rank 4 for all matrices, and of rank 7 for two of them.
fn adapters() -> [TempDir; 2] {
    let mut scaled = config(7);
    scaled["use_rslora"] = true.into();
    [write(&config(4), &halves(&ALL, 4, 1)), write(&scaled, &halves(&["self_attn.v_proj", "mlp.up_proj"], 7, 2))]
}

/// The tiny model with the changes added to its weights.
fn changed_model(adapter: &Path, scale: f64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(model().join(name), folder.path().join(name)).unwrap();
    }
    let (mut weights, halves) = (weights(), load(adapter.join("adapter_model.safetensors"), &Device::Cpu).unwrap());
    for (name, a) in halves.iter().filter(|(name, _)| name.ends_with("lora_A.weight")) {
        let b = &halves[&name.replace("lora_A", "lora_B")];
        let tensor = name.strip_prefix(PREFIX).unwrap().replace("lora_A.weight", "weight");
        let change = (b.matmul(a).unwrap() * scale).unwrap();
        let sum = (&weights[&tensor] + change).unwrap();
        weights.insert(tensor, sum);
    }
    save(&weights, folder.path().join("model.safetensors")).unwrap();
    folder
}

/// The hidden states after a prompt, as they are.
fn hidden(engine: &LocalEngine, model: Option<&str>, pooling_type: PoolingType) -> Vec<f32> {
    let params = PoolingParams::default().with_pooling_type(pooling_type).with_normalize(false);
    let mut request = Request::new("a", (3..60).collect::<Vec<u32>>()).with_pooling_params(params);
    request.model = model.map(str::to_owned);
    block_on(engine.submit(request).embedding()).unwrap().embedding
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn an_adapter_gives_the_numbers_of_changed_weights_merged_and_by_name() {
    let base = hidden(&builder().build().unwrap(), None, PoolingType::Mean);
    for (adapter, scale) in adapters().iter().zip([16.0 / 4.0, 16.0 / 7f64.sqrt()]) {
        let changed = changed_model(adapter.path(), scale);
        let expected = hidden(&LocalEngine::builder(changed.path()).build().unwrap(), None, PoolingType::Mean);
        assert!(largest_difference(&expected, &base) > 0.1, "the adapter changes something");
        let merged = hidden(&builder().lora_path(adapter.path()).build().unwrap(), None, PoolingType::Mean);
        let named = builder().lora_adapter("x", adapter.path()).build().unwrap();
        let by_name = hidden(&named, Some("x"), PoolingType::Mean);
        for (way, found) in [("merged", merged), ("by name", by_name)] {
            let difference = largest_difference(&found, &expected);
            assert!(difference < 1e-4, "{way}: {difference}");
        }
        assert_eq!(hidden(&named, None, PoolingType::Mean), base);
    }
}

/// The mean over the tokens, which a sum of other hidden states would hardly have.
#[test]
fn an_adapter_of_peft_gives_the_numbers_of_peft() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/lora");
    let expected = load(folder.join("expected.safetensors"), &Device::Cpu).unwrap();
    let token_ids: Vec<u32> = expected["input_ids"].to_dtype(DType::U32).unwrap().to_vec1().unwrap();
    let mean = |name: &str| expected[name].mean(0).unwrap().to_vec1::<f32>().unwrap();
    let params = PoolingParams::default().with_pooling_type(PoolingType::Mean).with_normalize(false);
    let embed = |engine: &LocalEngine, model: &str| {
        let request = Request::new("a", token_ids.clone()).with_model(model).with_pooling_params(params.clone());
        block_on(engine.submit(request).embedding()).unwrap().embedding
    };
    let named = builder().lora_adapter("x", &folder).build().unwrap();
    let merged = builder().lora_path(&folder).build().unwrap();
    for (engine, model, expected) in
        [(&named, "llama", "plain"), (&named, "x", "changed"), (&merged, "llama", "changed")]
    {
        let difference = largest_difference(&embed(engine, model), &mean(expected));
        assert!(difference < 1e-5, "{model} {expected}: {difference}");
    }
}

/// The tiny model as llama.cpp's converter writes it, with its matrices in this format.
fn gguf(dtype: GgmlDType) -> TempDir {
    let json: Value = serde_json::from_slice(&std::fs::read(model().join("tokenizer.json")).unwrap()).unwrap();
    let mut tokens: Vec<_> = json["model"]["vocab"].as_object().unwrap().iter().collect();
    tokens.sort_by_key(|(_, id)| id.as_u64());
    let text = |text: &str| Field::String(text.to_owned());
    let merge = |pair: &Value| text(&format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    let mut fields = vec![
        ("general.architecture", text("llama")),
        ("llama.attention.layer_norm_rms_epsilon", Field::F32(1e-6)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        ("tokenizer.ggml.tokens", Field::Array(tokens.iter().map(|(token, _)| text(token)).collect())),
        (
            "tokenizer.ggml.merges",
            Field::Array(json["model"]["merges"].as_array().unwrap().iter().map(merge).collect()),
        ),
    ];
    let sizes = [
        ("llama.context_length", 512),
        ("llama.embedding_length", 64),
        ("llama.block_count", 3),
        ("llama.feed_forward_length", 160),
        ("llama.attention.head_count", 4),
        ("llama.attention.head_count_kv", 2),
        ("tokenizer.ggml.eos_token_id", 2),
    ];
    fields.extend(sizes.map(|(key, size)| (key, Field::U32(size))));
    let tensors: Vec<_> = weights()
        .into_iter()
        .map(|(name, tensor)| {
            let (name, tensor) = as_in_gguf(&name, tensor);
            let dtype = if tensor.rank() == 2 { dtype } else { GgmlDType::F32 };
            (name, QTensor::quantize(&tensor, dtype).unwrap())
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(folder.path().join("model.gguf")).unwrap();
    let fields: Vec<_> = fields.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut file, &fields, &tensors).unwrap();
    folder
}

/// A tensor's name in a GGUF file; of queries and keys, the halves of a head become neighbouring rows.
fn as_in_gguf(name: &str, tensor: Tensor) -> (String, Tensor) {
    let parts = [
        ("model.layers.", "blk."),
        ("model.embed_tokens.", "token_embd."),
        ("model.norm.", "output_norm."),
        ("lm_head.", "output."),
        ("post_attention_layernorm", "ffn_norm"),
        ("input_layernorm", "attn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    let renamed = parts.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
    if !renamed.contains("attn_q.") && !renamed.contains("attn_k.") {
        return (renamed, tensor);
    }
    let (rows, depth) = tensor.dims2().unwrap();
    let halves = tensor.reshape((rows / 16, 2, 8, depth)).unwrap();
    (renamed, halves.transpose(1, 2).unwrap().contiguous().unwrap().reshape((rows, depth)).unwrap())
}

#[test]
fn an_adapter_fits_a_gguf_file_of_its_model() {
    let adapters = adapters();
    let exact = two(&adapters).build().unwrap();
    for (dtype, most) in [(GgmlDType::F32, 1e-4), (GgmlDType::Q8_0, 0.1)] {
        let file = gguf(dtype);
        let builder = LocalEngine::builder(file.path().join("model.gguf")).served_model_name("tiny").threads(1);
        let [a, b] = [&adapters[0], &adapters[1]].map(TempDir::path);
        let engine = builder.lora_adapter("a", a).lora_adapter("b", b).build().unwrap();
        for name in ["tiny", "a", "b"] {
            let [expected, found] = [&exact, &engine].map(|engine| hidden(engine, Some(name), PoolingType::Mean));
            let difference = largest_difference(&found, &expected);
            assert!(difference < most, "{dtype:?} {name}: {difference}");
        }
    }
}

#[test]
fn what_does_not_fit_a_gguf_file_is_refused() {
    let file = gguf(GgmlDType::F32);
    let builder = || LocalEngine::builder(file.path().join("model.gguf")).threads(1);
    let code = |builder: EngineBuilder| builder.build().map(|_| ()).map_err(|error| error.code());
    let halves = halves(&["self_attn.q_proj"], 4, 1);
    let fitting = write(&config(4), &halves);
    assert_eq!(code(builder().lora_path(fitting.path())), Err("invalid_option"));
    assert_eq!(code(builder().lora_adapter("x", fitting.path())), Ok(()));
    let renamed = |name: &str| name.replace("layers.2", "layers.3");
    let strange = halves.iter().map(|(name, tensor)| (renamed(name), tensor.clone())).collect();
    assert_eq!(code(builder().lora_adapter("x", write(&config(4), &strange).path())), Err("missing_tensor"));
    assert_eq!(code(builder().lora_adapter("x", write(&config(5), &halves).path())), Err("wrong_tensor_shape"));
}

fn two(adapters: &[TempDir; 2]) -> EngineBuilder {
    builder().served_model_name("tiny").lora_adapter("a", adapters[0].path()).lora_adapter("b", adapters[1].path())
}

/// Texts, embeddings and scores, of the model and of both adapters, with common beginnings.
fn requests() -> Vec<Request> {
    let names = [None, Some("a"), Some("b"), Some("tiny")];
    let request = |i: u32| {
        let token_ids: Vec<u32> = (0..35).chain((0..=(i * 7) % 40).map(|j| (i * 31 + j * 17) % 512)).collect();
        let mut request = Request::new(format!("row-{i}"), token_ids);
        request.model = names[i as usize % 4].map(str::to_owned);
        match i % 5 {
            0 => request.with_pooling_params(PoolingParams::default()),
            1 => {
                request.with_scoring_params(ScoringParams::new([Label::TokenIds(vec![5]), Label::TokenIds(vec![9, 4])]))
            }
            2 => request.with_sampling_params(SamplingParams::default().with_seed(3).with_n(2).with_max_tokens(5)),
            _ => request.with_sampling_params(SamplingParams::greedy().with_max_tokens(4 + i % 9)),
        }
    };
    (0..40).map(request).collect()
}

/// The last event of each request, without what the cache held, which depends on the others.
fn last_events(engine: EngineBuilder, requests: Vec<Request>) -> Vec<OutputEvent> {
    let engine = engine.build().unwrap();
    let streams: Vec<_> = requests.into_iter().map(|request| engine.submit(request)).collect();
    let last = |stream: vllm_batch::OutputStream| block_on(stream.collect::<Vec<_>>()).pop().unwrap();
    let without_cache = |mut event| {
        match &mut event {
            OutputEvent::Finished(output) => output.usage.cached_tokens = 0,
            OutputEvent::Embedded(output) => output.usage.cached_tokens = 0,
            OutputEvent::Scored(output) => output.usage.cached_tokens = 0,
            other => panic!("{other:?}"),
        }
        event
    };
    streams.into_iter().map(last).map(without_cache).collect()
}

#[test]
fn answers_do_not_depend_on_which_adapters_share_a_step() {
    let adapters = adapters();
    let expected = last_events(two(&adapters).max_num_seqs(1).enable_prefix_caching(false), requests());
    let ways = [
        ("batched", two(&adapters)),
        ("in small chunks", two(&adapters).max_num_batched_tokens(7)),
        ("preempted", two(&adapters).max_model_len(160).kv_cache_memory(12 * BLOCK)),
        ("on five threads", two(&adapters).threads(5)),
    ];
    for (name, engine) in ways {
        assert_eq!(last_events(engine, requests()), expected, "{name}");
    }
    for place in 0..8 {
        assert_eq!(last_events(two(&adapters), vec![requests().remove(place)]), expected[place..=place], "alone");
    }
    let of_base = |events: &[OutputEvent]| events.iter().step_by(4).cloned().collect::<Vec<_>>();
    let base = requests().into_iter().step_by(4).collect();
    assert_eq!(last_events(builder(), base), of_base(&expected), "the model itself is as without adapters");
}

#[test]
fn adapters_share_no_blocks_with_each_other() {
    let adapters = adapters();
    let engine = two(&adapters).build().unwrap();
    let cached = |model: Option<&str>| {
        let mut request =
            Request::new("r", (0..50).collect::<Vec<u32>>()).with_pooling_params(PoolingParams::default());
        request.model = model.map(str::to_owned);
        block_on(engine.submit(request).embedding()).unwrap().usage.cached_tokens
    };
    let order = [None, Some("a"), Some("b"), Some("b"), Some("a"), Some("tiny")];
    assert_eq!(order.map(cached), [0, 0, 0, 48, 48, 48]);
}

#[test]
fn names_and_revisions_tell_adapters_apart() {
    let [first, second] = adapters();
    let spec = |engine: EngineBuilder| engine.build().unwrap().spec().clone();
    let both = spec(builder().lora_adapter("a", first.path()).lora_adapter("b", second.path()));
    assert_eq!(both.served_model_names[..1], ["llama"]);
    assert_eq!(
        (both.served_model_names.ends_with(&both.adapters), &both.adapters[..]),
        (true, &["a".to_owned(), "b".to_owned()][..])
    );
    let revisions = [
        spec(builder()),
        spec(builder().lora_path(first.path())),
        spec(builder().lora_path(second.path())),
        spec(builder().lora_adapter("a", first.path())),
        spec(builder().lora_adapter("a", second.path())),
        spec(builder().lora_adapter("b", first.path())),
        both,
    ]
    .map(|spec| spec.revision);
    for (index, revision) in revisions.iter().enumerate() {
        assert_eq!(revisions.iter().position(|other| other == revision), Some(index), "{revision}");
    }
    let engine = builder().served_model_name("tiny").lora_adapter("a", first.path()).build().unwrap();
    let missing = Request::new("r", "x").with_model("b").with_sampling_params(SamplingParams::greedy());
    let served = vec!["tiny".to_owned(), "a".to_owned()];
    assert_eq!(engine.generate([missing]), [Err(RequestError::ModelNotFound { model: "b".to_owned(), served })]);
    let taken = builder().served_model_name("a").lora_adapter("a", first.path()).build().unwrap_err();
    assert!(matches!(taken, LoadError::InvalidOption { option: "lora_adapter", .. }), "{taken}");
}

#[test]
fn a_batch_file_names_its_adapters_and_so_do_the_answers() {
    let adapters = adapters();
    let folder = tempfile::tempdir().unwrap();
    let [input, output, errors] = ["in.jsonl", "out.jsonl", "errors.jsonl"].map(|name| folder.path().join(name));
    let line = |id: &str, model: &str| {
        let body = json!({"model": model, "prompt": [[3, 4, 5], [6]], "temperature": 0, "max_tokens": 3});
        json!({"custom_id": id, "method": "POST", "url": "/v1/completions", "body": body}).to_string()
    };
    let lines = [line("1", "tiny"), line("2", "a"), line("3", "b"), line("4", "c")];
    std::fs::write(&input, lines.join("\n")).unwrap();
    let engine = two(&adapters).build().unwrap();
    BatchRunner::new(&engine).input(&input).output(&output).errors(&errors).run().unwrap();
    let rows = |path| -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let mut answers = rows(&output);
    answers.sort_by_key(|row| row["custom_id"].to_string());
    let models: Vec<_> = answers.iter().map(|row| row["response"]["body"]["model"].clone()).collect();
    assert_eq!(models, ["tiny", "a", "b"]);
    let refused = rows(&errors);
    assert_eq!((refused.len(), &refused[0]["response"]["body"]["error"]["code"]), (1, &Value::from("model_not_found")));
    for (row, model) in answers.iter().zip(["tiny", "a", "b"]) {
        let request = |ids: Vec<u32>| {
            Request::new("r", ids).with_model(model).with_sampling_params(SamplingParams::greedy().with_max_tokens(3))
        };
        let expected = engine.generate([request(vec![3, 4, 5]), request(vec![6])]);
        for (choice, expected) in row["response"]["body"]["choices"].as_array().unwrap().iter().zip(expected) {
            assert_eq!(choice["text"], expected.unwrap().outputs[0].text.as_str(), "{model}");
        }
    }
}

#[test]
fn adapters_that_would_change_the_results_otherwise_are_refused() {
    let good = halves(&["self_attn.q_proj"], 4, 1);
    let with = |key: &str, value: Value| {
        let mut config = config(4);
        config[key] = value;
        config
    };
    let and = |name: &str, shape| {
        let mut halves = good.clone();
        halves.insert(format!("{PREFIX}{name}"), numbers(shape, 9));
        halves
    };
    let cases = [
        (with("peft_type", "LOHA".into()), good.clone(), "unsupported_config"),
        (with("bias", "all".into()), good.clone(), "unsupported_config"),
        (with("fan_in_fan_out", true.into()), good.clone(), "unsupported_config"),
        (with("use_dora", true.into()), good.clone(), "unsupported_config"),
        (with("rank_pattern", json!({"q_proj": 8})), good.clone(), "unsupported_config"),
        (with("modules_to_save", json!(["lm_head"])), good.clone(), "unsupported_config"),
        (with("init_lora_weights", "pissa".into()), good.clone(), "unsupported_config"),
        (with("r", 0.into()), good.clone(), "broken_config"),
        (with("r", 5.into()), good.clone(), "wrong_tensor_shape"),
        (with("lora_alpha", "x".into()), good.clone(), "broken_config"),
        (config(4), and("model.embed_tokens.lora_embedding_A", (4, 512)), "unsupported_config"),
        (config(4), and("model.layers.0.mlp.down_proj.lora_A.weight", (4, 160)), "missing_tensor"),
        (config(4), and("model.layers.9.mlp.down_proj.lora_A.weight", (4, 160)), "missing_tensor"),
    ];
    for (config, halves, code) in cases {
        let adapter = write(&config, &halves);
        for builder in [builder().lora_path(adapter.path()), builder().lora_adapter("a", adapter.path())] {
            assert_eq!(builder.build().unwrap_err().code(), code, "{config}");
        }
    }
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(builder().lora_path(empty.path()).build().unwrap_err().code(), "model_file_missing");
    let mut head = good.clone();
    head.insert(format!("{PREFIX}lm_head.lora_A.weight"), numbers((4, 64), 1));
    head.insert(format!("{PREFIX}lm_head.lora_B.weight"), numbers((512, 4), 2));
    let head = write(&config(4), &head);
    assert!(builder().lora_path(head.path()).build().is_ok());
    assert_eq!(builder().lora_adapter("a", head.path()).build().unwrap_err().code(), "unsupported_config");
}
