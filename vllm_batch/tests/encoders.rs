//! Sentence encoders: all-MiniLM-L6-v2 against sentence-transformers, and a tiny one in every way of batching.

#![allow(clippy::unwrap_used)]

#[path = "../../examples/demo_model/mod.rs"]
mod demo_model;

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use futures::StreamExt;
use futures::executor::block_on;
use serde_json::Value;
use vllm_batch::{
    BatchEngine, BatchEngineExt, BatchRunner, EngineBuilder, LoadError, LocalEngine, Message, OutputEvent,
    PoolingParams, PoolingType, Prompt, Request, RequestError, SamplingParams, ScoringParams, TaskKind, WeightDtype,
};

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/encoders").join(path)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Longer sentences are cut as sentence-transformers does it.
#[test]
fn sentences_are_embedded_as_by_sentence_transformers() {
    let engine = LocalEngine::builder(demo_model::sentence_encoder().expect("the encoder")).build().unwrap();
    assert_eq!(engine.spec().max_model_len, 256);
    let text = std::fs::read_to_string(data("minilm.txt")).unwrap();
    let sentences: Vec<&str> = text.lines().collect();
    let expected = &candle_core::safetensors::load(data("minilm.safetensors"), &Device::Cpu).unwrap()["embeddings"];
    let expected: Vec<Vec<f32>> = expected.to_dtype(DType::F32).unwrap().to_vec2().unwrap();
    assert_eq!((sentences.len(), expected.len(), expected[0].len()), (100, 100, 384));
    let results = engine.embed(sentences.clone(), &PoolingParams::default().with_truncate_prompt_tokens(-1));
    let embeddings: Vec<_> = results.into_iter().map(|result| result.unwrap().embedding).collect();
    for ((sentence, embedding), expected) in sentences.iter().zip(&embeddings).zip(&expected) {
        let cosine = cosine(embedding, expected);
        assert!(cosine > 0.999_999, "{sentence}: {cosine}");
        let length: f64 = embedding.iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((length - 1.0).abs() < 1e-6, "{sentence}: {length}");
    }
    for place in (0..100).step_by(9) {
        let alone = engine.embed([sentences[place]], &PoolingParams::default().with_truncate_prompt_tokens(-1));
        assert_eq!(alone[0].as_ref().unwrap().embedding, embeddings[place], "{}", sentences[place]);
    }
}

/// Weights are quantised as they are loaded: vectors move a little, and every way of batching still gives the same ones.
#[test]
fn a_quantised_encoder_stays_near_and_equal_to_itself() {
    let folder = demo_model::sentence_encoder().expect("the encoder");
    let engine = |dtype| LocalEngine::builder(&*folder).dtype(dtype).build().unwrap();
    let text = std::fs::read_to_string(data("minilm.txt")).unwrap();
    let sentences: Vec<&str> = text.lines().take(30).collect();
    let embed = |engine: &LocalEngine, sentences: &[&str]| -> Vec<Vec<f32>> {
        let results = engine.embed(sentences.iter().copied(), &PoolingParams::default());
        results.into_iter().map(|result| result.unwrap().embedding).collect()
    };
    let exact = embed(&engine(WeightDtype::F32), &sentences);
    for (dtype, least) in [(WeightDtype::Q8_0, 0.999), (WeightDtype::Q4_0, 0.9)] {
        let engine = engine(dtype);
        let found = embed(&engine, &sentences);
        for ((sentence, found), exact) in sentences.iter().zip(&found).zip(&exact) {
            let cosine = cosine(found, exact);
            assert!((least..0.999_999_9).contains(&cosine), "{dtype:?}: {sentence}: {cosine}");
        }
        let alone: Vec<_> = sentences.iter().flat_map(|sentence| embed(&engine, &[sentence])).collect();
        assert!(alone == found, "{dtype:?}");
    }
}

fn tiny() -> EngineBuilder {
    LocalEngine::builder(data("bert")).threads(1)
}

fn requests() -> Vec<Request> {
    let types = [PoolingType::Mean, PoolingType::Cls, PoolingType::Last];
    let request = |i: u32| {
        let token_ids: Vec<u32> = (0..=(i * 23) % 70).map(|j| (i * 31 + j * 17) % 96).collect();
        let params =
            PoolingParams::default().with_pooling_type(types[i as usize % 3]).with_normalize(i.is_multiple_of(2));
        Request::new(format!("row-{i}"), Prompt::TokenIds(token_ids)).with_pooling_params(params)
    };
    (0..40).map(request).collect()
}

fn last_events(engine: EngineBuilder, requests: Vec<Request>) -> Vec<OutputEvent> {
    let engine = engine.build().unwrap();
    let streams: Vec<_> = requests.into_iter().map(|request| engine.submit(request)).collect();
    streams.into_iter().map(|stream| block_on(stream.collect::<Vec<_>>()).pop().unwrap()).collect()
}

#[test]
fn embeddings_do_not_depend_on_how_texts_are_batched() {
    let expected = last_events(tiny().max_num_seqs(1), requests());
    assert!(expected.iter().all(|event| matches!(event, OutputEvent::Embedded(_))));
    let ways = [
        ("batched", tiny().max_num_seqs(64).max_num_batched_tokens(4096)),
        ("few tokens in a step", tiny().max_num_batched_tokens(1)),
        ("few texts in a step", tiny().max_num_seqs(3)),
        ("without memory for keys and values", tiny().kv_cache_memory(0)),
        ("on five threads", tiny().threads(5)),
    ];
    for (name, engine) in ways {
        assert_eq!(last_events(engine, requests()), expected, "{name}");
    }
}

#[test]
fn many_texts_share_a_step() {
    let mut core = tiny().max_num_batched_tokens(128).build_core().unwrap();
    for request in requests() {
        core.add_request(request).unwrap();
    }
    let mut steps = Vec::new();
    while core.has_unfinished() {
        steps.push(core.step().unwrap().len());
    }
    assert_eq!(steps.iter().sum::<usize>(), 40);
    assert!(steps.iter().all(|texts| *texts > 0) && steps.len() < 20, "{steps:?}");
}

/// Hidden states are what a text's own tokens make of each other: the first one knows the last.
#[test]
fn the_first_token_sees_the_last() {
    let engine = tiny().build().unwrap();
    let params = PoolingParams::default().with_pooling_type(PoolingType::Cls);
    let results = engine.embed([vec![5, 6, 7], vec![5, 6, 8]], &params);
    assert_ne!(results[0].as_ref().unwrap().embedding, results[1].as_ref().unwrap().embedding);
}

#[test]
fn an_encoder_embeds_and_does_nothing_else() {
    let engine = tiny().build().unwrap();
    assert_eq!(engine.spec().supported_tasks, [TaskKind::Embed]);
    let refused = |task| RequestError::UnsupportedTask { task, supported: vec!["embed"] };
    let text = Request::new("a", "abc").with_sampling_params(SamplingParams::greedy());
    assert_eq!(engine.generate([text]), [Err(refused("generate"))]);
    assert_eq!(engine.score(["abc"], &ScoringParams::new(["a"])), [Err(refused("score"))]);
    let messages = vec![Message::user("abc")];
    assert_eq!(engine.embed([messages], &PoolingParams::default()), [Err(RequestError::NoChatTemplate)]);
}

/// Special tokens 2 and 3 stand around each text.
#[test]
fn long_texts_are_errors_or_cut_between_their_special_tokens() {
    let engine = tiny().max_model_len(8).build().unwrap();
    let embed = |prompt: &str, tokens: Option<i32>| {
        let mut params = PoolingParams::default();
        params.truncate_prompt_tokens = tokens;
        engine.embed([prompt], &params).remove(0).map(|output| output.prompt_token_ids.to_vec())
    };
    let letters = "a b c d e f g h i";
    let too_long = RequestError::PromptTooLong { prompt_tokens: 11, max_model_len: 8 };
    assert_eq!(embed(letters, None), Err(too_long));
    assert_eq!(embed(letters, Some(-1)), Ok(vec![2, 4, 5, 6, 7, 8, 9, 3]));
    assert_eq!(embed(letters, Some(3)), Ok(vec![2, 4, 3]));
    assert_eq!(embed(letters, Some(2)), Ok(vec![2, 3]));
    assert_eq!(embed("a b", Some(-1)), Ok(vec![2, 4, 5, 3]));
    assert_eq!(embed(letters, Some(1)).unwrap_err().param(), Some("truncate_prompt_tokens"));
    let ids = Prompt::TokenIds((10..30).collect());
    let cut = engine.embed([ids], &PoolingParams::default().with_truncate_prompt_tokens(4)).remove(0).unwrap();
    assert_eq!(cut.prompt_token_ids.to_vec(), [10, 11, 12, 13]);
}

/// The tiny encoder with files of sentence-transformers.
fn with_files(files: &[(&str, &str)]) -> Result<LocalEngine, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(data("bert").join(name), folder.path().join(name)).unwrap();
    }
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    LocalEngine::builder(folder.path()).threads(1).build()
}

const TRANSFORMER: &str = r#"{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"}"#;
const POOLING: &str = r#"{"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"}"#;
const NORMALIZE: &str = r#"{"idx":2,"name":"2","path":"2_Normalize","type":"sentence_transformers.models.Normalize"}"#;

#[test]
fn the_model_says_how_its_embeddings_are_made() {
    use PoolingType::{Cls, Last, Mean};
    let modules = |modules: &[&str]| format!("[{}]", modules.join(","));
    let cases = [
        (r#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}"#, true, Cls),
        (r#"{"word_embedding_dimension":48,"pooling_mode_mean_tokens":true,"include_prompt":true}"#, true, Mean),
        (r#"{"pooling_mode_lasttoken":true}"#, false, Last),
        (r#"{"pooling_mode":"cls","embedding_dimension":48}"#, false, Cls),
        (r#"{"pooling_mode":["lasttoken"]}"#, true, Last),
        ("{}", false, Mean),
    ];
    let plain = tiny().build().unwrap();
    for (pooling, normalizes, pooling_type) in cases {
        let list = if normalizes { vec![TRANSFORMER, POOLING, NORMALIZE] } else { vec![TRANSFORMER, POOLING] };
        let files = [("modules.json", modules(&list)), ("1_Pooling/config.json", pooling.to_owned())];
        let engine = with_files(&files.each_ref().map(|(name, content)| (*name, content.as_str()))).unwrap();
        let params = PoolingParams::default().with_pooling_type(pooling_type).with_normalize(normalizes);
        let embedding = |engine: &LocalEngine, params| engine.embed(["a text"], params).remove(0).unwrap().embedding;
        assert_eq!(embedding(&engine, &PoolingParams::default()), embedding(&plain, &params), "{pooling}");
        assert_ne!(engine.spec().revision, plain.spec().revision);
    }
    let engine = with_files(&[("sentence_bert_config.json", r#"{"max_seq_length":9,"do_lower_case":false}"#)]).unwrap();
    assert_eq!((engine.spec().max_model_len, plain.spec().max_model_len), (9, 70));
}

#[test]
fn steps_that_are_not_implemented_are_refused() {
    let pooling = format!("[{TRANSFORMER},{POOLING}]");
    let dense = format!("[{TRANSFORMER},{}]", r#"{"path":"2_Dense","type":"sentence_transformers.models.Dense"}"#);
    let elsewhere = r#"[{"path":"../x","type":"sentence_transformers.models.Pooling"}]"#;
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[("modules.json", &dense)], "unsupported_config"),
        (&[("modules.json", &pooling)], "broken_config"),
        (&[("modules.json", elsewhere)], "broken_config"),
        (&[("modules.json", "{}")], "model_file_broken"),
        (&[("modules.json", &pooling), ("1_Pooling/config.json", r#"{"pooling_mode":"max"}"#)], "unsupported_config"),
        (&[("modules.json", &pooling), ("1_Pooling/config.json", r#"{"new_mode":true}"#)], "unsupported_config"),
        (
            &[
                ("modules.json", &pooling),
                ("1_Pooling/config.json", r#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":true}"#),
            ],
            "unsupported_config",
        ),
        (&[("sentence_bert_config.json", r#"{"do_lower_case":true}"#)], "unsupported_config"),
    ];
    for (files, code) in cases {
        assert_eq!(with_files(files).unwrap_err().code(), code, "{files:?}");
    }
}

#[test]
fn limits_hold_for_encoders_too() {
    let code = |builder: EngineBuilder| builder.build().unwrap_err().to_string();
    assert!(code(tiny().max_model_len(71)).contains("max_model_len"));
    assert!(code(tiny().max_num_batched_tokens(0)).contains("max_num_batched_tokens"));
    assert!(code(tiny().max_num_seqs(0)).contains("max_num_seqs"));
}

#[test]
fn a_batch_file_s_embeddings_come_back_and_its_chats_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let [input, output, errors] = ["in.jsonl", "out.jsonl", "errors.jsonl"].map(|name| folder.path().join(name));
    let lines = [
        r#"{"custom_id":"e","method":"POST","url":"/v1/embeddings","body":{"model":"bert","input":["ab","c d e"]}}"#,
        r#"{"custom_id":"c","method":"POST","url":"/v1/chat/completions","body":{"model":"bert","messages":[{"role":"user","content":"a"}]}}"#,
    ];
    std::fs::write(&input, lines.join("\n")).unwrap();
    let engine = tiny().build().unwrap();
    let runner = BatchRunner::new(&engine).input(&input).output(&output).errors(&errors);
    runner.run().unwrap();
    let row = |path| serde_json::from_str::<Value>(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (answer, error) = (row(&output), row(&errors));
    let data = answer["response"]["body"]["data"].as_array().unwrap();
    let expected = engine.embed(["ab", "c d e"], &PoolingParams::default());
    for (data, expected) in data.iter().zip(&expected) {
        let numbers: Vec<f32> = serde_json::from_value(data["embedding"].clone()).unwrap();
        assert_eq!(numbers, expected.as_ref().unwrap().embedding);
    }
    assert_eq!((answer["custom_id"].as_str(), data.len()), (Some("e"), 2));
    assert_eq!(error["response"]["body"]["error"]["code"], "unsupported_task");
    assert_eq!((error["custom_id"].as_str(), &error["response"]["status_code"]), (Some("c"), &Value::from(400)));
}
