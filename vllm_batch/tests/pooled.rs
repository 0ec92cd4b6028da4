//! Embeddings and scores on the tiny model, against what transformers computes for it, and on the demo model.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../examples/demo_model/mod.rs"]
mod demo_model;

use candle_core::safetensors::load;
use candle_core::{DType, Device, Tensor};
use common::{BLOCK, builder, model};
use futures::StreamExt;
use futures::executor::block_on;
use vllm_batch::{
    BatchEngine, BatchEngineExt, EngineBuilder, Label, LocalEngine, Message, OutputEvent, PoolingParams, PoolingType,
    Prompt, Request, RequestError, SamplingParams, ScoringParams,
};

const TYPES: [PoolingType; 3] = [PoolingType::Last, PoolingType::Mean, PoolingType::Cls];

/// Hidden states as they are.
fn plain(pooling_type: PoolingType) -> PoolingParams {
    PoolingParams::default().with_pooling_type(pooling_type).with_normalize(false)
}

fn embed_one(engine: &LocalEngine, token_ids: &[u32], params: &PoolingParams) -> Vec<f32> {
    engine.embed([token_ids.to_vec()], params).remove(0).unwrap().embedding
}

/// The head is linear, so that what it makes of an embedding is the same mean of the logits as the embedding is of the
/// hidden states.
#[test]
fn embeddings_are_those_of_transformers() {
    let engine = builder().build().unwrap();
    let weights = load(model().join("model.safetensors"), &Device::Cpu).unwrap();
    let expected = load(model().join("expected.safetensors"), &Device::Cpu).unwrap();
    for prompt in 0..3 {
        let ids = &expected[&format!("p{prompt}.input_ids")];
        let token_ids: Vec<u32> = ids.to_dtype(DType::U32).unwrap().to_vec1().unwrap();
        let logits = &expected[&format!("p{prompt}.logits")];
        let scale = logits.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        for pooling_type in TYPES {
            let embedding = embed_one(&engine, &token_ids, &plain(pooling_type));
            assert_eq!(embedding.len(), 64);
            let column = Tensor::from_vec(embedding, (64, 1), &Device::Cpu).unwrap();
            let found = weights["lm_head.weight"].matmul(&column).unwrap().flatten_all().unwrap();
            let expected = match pooling_type {
                PoolingType::Mean => logits.mean(0).unwrap(),
                PoolingType::Cls => logits.get(0).unwrap(),
                _ => logits.get(token_ids.len() - 1).unwrap(),
            };
            let difference = (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(difference <= 1e-4 * scale, "p{prompt} {pooling_type}: {difference} of {scale}");
        }
    }
}

/// Embeddings, scores and texts over the same few beginnings.
fn mixed() -> Vec<Request> {
    let token_ids = |i: u32| -> Vec<u32> {
        let shared = if i.is_multiple_of(2) { 35 } else { 0 };
        (0..shared).chain((0..=(i * 7) % 50).map(|j| (i * 31 + j * 17) % 512)).collect()
    };
    let request = |i: u32| {
        let request = Request::new(format!("row-{i}"), Prompt::TokenIds(token_ids(i)));
        match i % 5 {
            0..=2 => request.with_pooling_params(plain(TYPES[i as usize % 5])),
            3 => request.with_scoring_params(ScoringParams::new(labels())),
            _ => request.with_sampling_params(SamplingParams::greedy().with_max_tokens(4 + i % 9)),
        }
    };
    (0..45).map(request).collect()
}

/// Of one and of several tokens, some with a common beginning.
fn labels() -> Vec<Label> {
    let long: Vec<u32> = (100..130).collect();
    [vec![5], vec![9], vec![5, 6], vec![5, 6, 7], vec![5, 8], long].map(Label::TokenIds).to_vec()
}

/// The last event of each request.
fn last_events(engine: EngineBuilder, requests: Vec<Request>) -> Vec<OutputEvent> {
    let engine = engine.build().unwrap();
    let streams: Vec<_> = requests.into_iter().map(|request| engine.submit(request)).collect();
    let last = |stream: vllm_batch::OutputStream| block_on(stream.collect::<Vec<_>>()).pop().unwrap();
    streams.into_iter().map(last).map(without_cache).collect()
}

/// How much the cache held depends on the others.
fn without_cache(mut event: OutputEvent) -> OutputEvent {
    match &mut event {
        OutputEvent::Finished(output) => output.usage.cached_tokens = 0,
        OutputEvent::Embedded(output) => output.usage.cached_tokens = 0,
        OutputEvent::Scored(output) => output.usage.cached_tokens = 0,
        _ => {}
    }
    event
}

#[test]
fn answers_do_not_depend_on_how_requests_are_batched() {
    let expected = last_events(builder().max_num_seqs(1).enable_prefix_caching(false), mixed());
    assert!(!expected.iter().any(|event| matches!(event, OutputEvent::Failed(_))));
    let ways = [
        ("batched", builder().max_num_seqs(64)),
        ("in small chunks", builder().max_num_batched_tokens(3)),
        ("without prefix cache", builder().enable_prefix_caching(false)),
        ("preempted", builder().max_model_len(160).kv_cache_memory(10 * BLOCK)),
        ("on two threads", builder().threads(2)),
        ("on five threads, in chunks", builder().threads(5).max_num_batched_tokens(50)),
    ];
    for (name, engine) in ways {
        assert_eq!(last_events(engine, mixed()), expected, "{name}");
    }
    for place in (0..45).step_by(7) {
        assert_eq!(last_events(builder(), vec![mixed().remove(place)]), expected[place..=place], "alone");
    }
}

/// Texts that come first and grow, and take the blocks of what is only half computed.
#[test]
fn what_is_preempted_is_computed_again_and_counted_once() {
    let long: Vec<u32> = (0..100).collect();
    let grows = SamplingParams::greedy().with_max_tokens(80).with_ignore_eos(true);
    let pooled = [
        Request::new("c", long.clone()).with_pooling_params(plain(PoolingType::Mean)),
        Request::new("d", long).with_scoring_params(ScoringParams::new(labels())),
    ];
    for pooled in pooled {
        let text = |id: &str| Request::new(id, vec![7]).with_sampling_params(grows.clone());
        let requests = [text("a"), text("b"), pooled];
        let expected = last_events(builder(), requests.to_vec());
        let builder = builder().max_model_len(160).kv_cache_memory(10 * BLOCK).max_num_batched_tokens(3);
        let mut core = builder.build_core().unwrap();
        let ids = requests.map(|request| core.add_request(request).unwrap());
        let mut last = Vec::new();
        while core.has_unfinished() {
            last.extend(core.step().unwrap().into_iter().filter(|(_, event)| !matches!(event, OutputEvent::Delta(_))));
        }
        assert!(core.num_preemptions() > 0, "ten blocks are too few for all at once");
        last.sort_by_key(|(id, _)| *id);
        let (found, events): (Vec<_>, Vec<_>) = last.into_iter().map(|(id, event)| (id, without_cache(event))).unzip();
        assert_eq!((found, events), (ids.to_vec(), expected));
    }
}

#[test]
fn a_mean_takes_nothing_from_the_prefix_cache_and_the_last_token_does() {
    let engine = builder().build().unwrap();
    let token_ids: Vec<u32> = (0..50).collect();
    let cached =
        |params: &PoolingParams| engine.embed([token_ids.clone()], params).remove(0).unwrap().usage.cached_tokens;
    assert_eq!([PoolingType::Mean, PoolingType::Mean, PoolingType::Last].map(|t| cached(&plain(t))), [0, 0, 48]);
    let scores = engine.score([token_ids.clone()], &ScoringParams::new(labels())).remove(0).unwrap();
    assert_eq!((scores.usage.prompt_tokens, scores.usage.completion_tokens, scores.usage.cached_tokens), (50, 0, 48));
}

#[test]
fn the_engine_s_pooling_type_is_the_default() {
    let token_ids: Vec<u32> = (3..40).collect();
    let params = PoolingParams::default();
    let revision = |engine: EngineBuilder| engine.build().unwrap().spec().revision.clone();
    for pooling_type in TYPES {
        let engine = builder().pooling_type(pooling_type).build().unwrap();
        let expected = embed_one(&engine, &token_ids, &params.clone().with_pooling_type(pooling_type));
        assert_eq!(embed_one(&engine, &token_ids, &params), expected);
    }
    assert_eq!(revision(builder()), revision(builder().pooling_type(PoolingType::Last)));
    assert_ne!(revision(builder()), revision(builder().pooling_type(PoolingType::Mean)));
}

#[test]
fn dimensions_are_cut_off_and_then_scaled() {
    let engine = builder().build().unwrap();
    let whole = embed_one(&engine, &[1, 2, 3], &plain(PoolingType::Mean));
    for dimensions in [1, 10, 64] {
        let params = PoolingParams::default().with_pooling_type(PoolingType::Mean).with_dimensions(dimensions);
        let some = embed_one(&engine, &[1, 2, 3], &params);
        let length = whole[..dimensions as usize].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert_eq!(some.len(), dimensions as usize);
        for (some, whole) in some.iter().zip(&whole) {
            assert!((f64::from(*some) - f64::from(*whole) / length).abs() < 1e-6, "{dimensions}");
        }
    }
}

#[test]
fn limits_are_told_with_their_parameter() {
    let engine = builder().max_model_len(32).build().unwrap();
    let embed = |token_ids: Vec<u32>, params: PoolingParams| Request::new("a", token_ids).with_pooling_params(params);
    let score = |token_ids: Vec<u32>, params: ScoringParams| Request::new("a", token_ids).with_scoring_params(params);
    let yes = || ScoringParams::new([Label::TokenIds(vec![5])]);
    let default = PoolingParams::default;
    let cases = [
        (embed(vec![], default()), "empty_prompt", Some("prompt")),
        (embed(vec![1; 33], default()), "context_length_exceeded", Some("prompt")),
        (embed(vec![512], default()), "unknown_token_id", Some("prompt")),
        (embed(vec![1], default().with_dimensions(65)), "invalid_value", Some("dimensions")),
        (embed(vec![1], default()).with_echo(true), "invalid_value", Some("echo")),
        (score(vec![], yes()), "empty_prompt", Some("prompt")),
        (score(vec![1; 32], yes()), "context_length_exceeded", Some("prompt")),
        (score(vec![1], ScoringParams::new([vec![1; 32]])), "invalid_value", Some("labels")),
        (score(vec![1], ScoringParams::new([vec![1], vec![512]])), "invalid_value", Some("labels[1]")),
        (score(vec![1], ScoringParams::new([""; 0])), "invalid_value", Some("labels")),
        (score(vec![1], yes()).with_echo(true), "invalid_value", Some("echo")),
    ];
    for (request, code, param) in cases {
        let events: Vec<_> = block_on(engine.submit(request.clone()).collect());
        let [OutputEvent::Failed(error)] = &events[..] else { panic!("{request:?}: {events:?}") };
        assert_eq!((error.code(), error.param()), (code, param), "{request:?}");
    }
    let fits = [
        embed(vec![1; 32], default()),
        embed(vec![1; 99], default().with_truncate_prompt_tokens(-1)),
        score(vec![1; 31], yes()),
        score(vec![1; 99], yes().with_truncate_prompt_tokens(-1)),
    ];
    let lengths: Vec<_> = fits.map(|request| block_on(engine.submit(request).collect::<Vec<_>>())).into();
    let lengths = lengths.iter().map(|events| match &events[..] {
        [OutputEvent::Embedded(output)] => output.prompt_token_ids.len(),
        [OutputEvent::Scored(output)] => output.prompt_token_ids.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(lengths.collect::<Vec<_>>(), [32, 32, 31, 31]);
}

#[test]
fn each_kind_of_answer_has_its_own_way_out() {
    let engine = builder().build().unwrap();
    let text =
        || engine.submit(Request::new("a", vec![1]).with_sampling_params(SamplingParams::greedy().with_max_tokens(1)));
    let vector = || engine.submit(Request::new("a", vec![1]).with_pooling_params(PoolingParams::default()));
    let refused = |answer: &str| RequestError::invalid("task", format!("the request does not ask for its {answer}"));
    assert_eq!(block_on(text().embedding()), Err(refused("embedding")));
    assert_eq!(block_on(text().scores()), Err(refused("scores")));
    assert_eq!(block_on(vector().output()), Err(refused("text")));
    assert!(block_on(vector().embedding()).is_ok());
}

/// What the engine itself says of the tokens after a prompt, if they are part of one.
fn prompt_logprobs(engine: &LocalEngine, prompt: &[u32], label: &[u32]) -> f64 {
    let params = SamplingParams::greedy().with_max_tokens(1).with_prompt_logprobs(0);
    let request = Request::new("a", [prompt, label].concat()).with_sampling_params(params);
    let output = engine.generate([request]).remove(0).unwrap();
    let places = output.prompt_logprobs.unwrap().split_off(prompt.len());
    places.iter().map(|place| f64::from(place.as_ref().unwrap().chosen.logprob)).sum()
}

#[test]
fn label_logprobs_are_those_of_the_prompt_that_goes_on_with_the_label() {
    for engine in [builder(), builder().max_num_batched_tokens(7)] {
        let engine = engine.build().unwrap();
        for len in [1, 15, 16, 17, 50] {
            let prompt: Vec<u32> = (0..len).map(|i| i * 7 % 512).collect();
            // Twice, so that the second time the cache holds the labels, too.
            for _ in 0..2 {
                let output = engine.score([prompt.clone()], &ScoringParams::new(labels())).remove(0).unwrap();
                for (label, found) in labels().iter().zip(&output.labels) {
                    let Label::TokenIds(token_ids) = label else { panic!("{label:?}") };
                    let expected = prompt_logprobs(&engine, &prompt, token_ids);
                    assert_eq!((found.logprob, found.num_tokens), (expected, token_ids.len()), "{len} {label:?}");
                }
                assert!((output.labels.iter().map(|label| label.probability).sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn dropped_requests_give_everything_back() {
    let engine = builder().build().unwrap();
    for request in mixed() {
        drop(engine.submit(request));
    }
    assert!(engine.embed([vec![1, 2]], &PoolingParams::default())[0].is_ok());
    let mut core = builder().max_num_batched_tokens(4).build_core().unwrap();
    let ids: Vec<_> = mixed().into_iter().map(|request| core.add_request(request).unwrap()).collect();
    core.step().unwrap();
    assert!(ids.into_iter().all(|id| core.abort(id)));
    assert!(!core.has_unfinished());
}

/// Four subjects, six texts each.
const TEXTS: [[&str; 6]; 4] = [
    [
        "The cat slept on the warm sofa all afternoon.",
        "A kitten was sleeping on the sofa in the afternoon.",
        "Our cat likes to sleep on a warm cushion.",
        "The cats are asleep on the couch.",
        "All afternoon the kitten slept on its cushion.",
        "On the warm couch a cat was sleeping.",
    ],
    [
        "The bank raised its interest rates by half a percent.",
        "Interest rates were raised by the central bank.",
        "The central bank increased rates by 0.5 percent.",
        "Rates go up half a percent, the bank said.",
        "The bank said that interest rates would rise.",
        "Higher interest rates were announced by the bank.",
    ],
    [
        "Mix the flour with butter and bake the cake for an hour.",
        "Bake the cake for one hour after mixing flour and butter.",
        "For the cake, mix butter, sugar and flour.",
        "Stir flour into the butter, then bake it.",
        "The cake is baked for an hour in the oven.",
        "Put the cake with flour and butter in the oven.",
    ],
    [
        "The rocket was launched into orbit this morning.",
        "This morning a rocket was launched to orbit.",
        "A rocket left for orbit at dawn.",
        "The launch of the rocket into orbit went well.",
        "Engineers launched the rocket this morning.",
        "The rocket reached its orbit after the launch.",
    ],
];

#[test]
fn the_demo_model_puts_similar_texts_close_to_each_other() {
    let path = demo_model::gguf().expect("the demo model");
    let engine = LocalEngine::builder(path).max_model_len(256).pooling_type(PoolingType::Mean).build().unwrap();
    let results = engine.embed(TEXTS.as_flattened().iter().copied(), &PoolingParams::default());
    let embeddings: Vec<_> = results.into_iter().map(|result| result.unwrap().embedding).collect();
    for embedding in &embeddings {
        let length = embedding.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        assert!(embedding.len() == 576 && (length - 1.0).abs() < 1e-6, "{length}");
    }
    let similarity = |i: usize, j: usize| -> f32 { embeddings[i].iter().zip(&embeddings[j]).map(|(x, y)| x * y).sum() };
    let mean = |of_same: bool| {
        let pairs = (0..24).flat_map(|i| (0..i).map(move |j| (i, j)));
        let chosen: Vec<_> = pairs.filter(|(i, j)| (i / 6 == j / 6) == of_same).collect();
        chosen.iter().map(|(i, j)| similarity(*i, *j)).sum::<f32>() / chosen.len() as f32
    };
    assert!(mean(true) > mean(false), "{} {}", mean(true), mean(false));
    let nearest = |i: usize| (0..24).filter(|j| *j != i).max_by(|a, b| similarity(i, *a).total_cmp(&similarity(i, *b)));
    let num_right = (0..24).filter(|i| nearest(*i).unwrap() / 6 == i / 6).count();
    assert!(num_right >= 20, "{num_right} of 24 texts have their nearest neighbour among those like them");
}

#[test]
fn the_demo_model_finds_the_better_label() {
    let path = demo_model::gguf().expect("the demo model");
    let engine = LocalEngine::builder(path).max_model_len(256).build().unwrap();
    let prompts = ["The capital of France is", "The opposite of hot is"];
    let results = engine.score(prompts, &ScoringParams::new([" Paris", " cold", " banana"]));
    let best: Vec<_> = results.into_iter().map(|result| result.unwrap().best()).collect();
    assert_eq!(best, [Some(0), Some(1)]);
    let question = vec![Message::user("Is the sky blue? Answer yes or no.")];
    let scores = engine.score([question], &ScoringParams::new(["Yes", "Purple"])).remove(0).unwrap();
    assert_eq!(scores.best(), Some(0));
}
