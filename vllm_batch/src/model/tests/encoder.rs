//! Encoders against transformers' own numbers.

use super::*;
use crate::model::encoder::Encoder;
use crate::model::families::model_from_hugging_face;
use crate::model::network::ModelSpec;

const NAMES: [&str; 3] = ["bert", "roberta", "xlm_roberta"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/encoders").join(name)
}

fn config(name: &str) -> Map<String, Value> {
    serde_json::from_slice(&std::fs::read(folder(name).join("config.json")).unwrap()).unwrap()
}

fn encoder_with(name: &str, config: &Map<String, Value>) -> Result<Encoder, crate::LoadError> {
    let (spec, names) = model_from_hugging_face(&Config::new("", config))?;
    let ModelSpec::Encoder(spec) = spec else { panic!("{spec:?}") };
    let tensors = SafetensorsFiles::open(&folder(name)).unwrap();
    Encoder::load(spec, WeightLoader { source: &tensors, names, dtype: WeightDtype::F32, head_dim: 0 })
}

/// Texts, and the hidden states of all their tokens.
fn texts(name: &str) -> Vec<(Vec<u32>, Vec<Vec<f32>>)> {
    let tensors = load(folder(name).join("expected.safetensors"), &Device::Cpu).unwrap();
    let text = |i: usize| {
        let ids = tensors[&format!("p{i}.input_ids")].to_dtype(DType::U32).unwrap().to_vec1().unwrap();
        (ids, tensors[&format!("p{i}.hidden")].to_vec2().unwrap())
    };
    (0..5).map(text).collect()
}

/// The hidden states of all tokens of texts that are computed together.
fn hidden(encoder: &Encoder, texts: &[&[u32]]) -> Vec<Vec<f32>> {
    let mut input = ModelInput::default();
    for text in texts {
        input.push(text, 0, vec![9; text.len().div_ceil(BLOCK_SIZE)], 0..text.len());
    }
    encoder.forward(&input, &mut Workspace::default()).unwrap().to_vec2().unwrap()
}

#[test]
fn hidden_states_are_those_of_transformers_and_do_not_depend_on_other_texts() {
    for name in NAMES {
        let encoder = encoder_with(name, &config(name)).unwrap();
        let (token_ids, expected): (Vec<_>, Vec<_>) = texts(name).into_iter().unzip();
        let alone: Vec<_> = token_ids.iter().map(|text| hidden(&encoder, &[text])).collect();
        for (i, (alone, expected)) in alone.iter().zip(&expected).enumerate() {
            assert_close(alone, expected, &format!("{name} p{i}"));
        }
        let together: Vec<&[u32]> = token_ids.iter().rev().map(Vec::as_slice).collect();
        let reversed: Vec<_> = alone.into_iter().rev().flatten().collect();
        for threads in [1, 3] {
            let team = Team::new(threads).unwrap();
            assert!(team.install(|| hidden(&encoder, &together)) == reversed, "{name} on {threads} threads");
        }
    }
}

#[test]
fn wanted_rows_are_those_of_the_whole() {
    let encoder = encoder_with("bert", &config("bert")).unwrap();
    let (text, _) = &texts("bert")[3];
    let all = hidden(&encoder, &[text]);
    for rows in [0..1, 5..9, text.len() - 1..text.len()] {
        let mut input = ModelInput::default();
        input.push(text, 0, vec![0; 4], rows.clone());
        assert_eq!(encoder.forward(&input, &mut Workspace::default()).unwrap().to_vec2::<f32>().unwrap(), all[rows]);
    }
}

#[test]
fn parts_of_texts_and_texts_that_are_too_long_are_errors() {
    let encoder = encoder_with("roberta", &config("roberta")).unwrap();
    for (len, position, fits) in [(70, 0, true), (71, 0, false), (1, 16, false)] {
        let mut input = ModelInput::default();
        input.push(&vec![5; len], position, vec![0; 5], 0..1);
        assert_eq!(encoder.forward(&input, &mut Workspace::default()).is_ok(), fits, "{len} tokens from {position}");
    }
}

#[test]
fn configurations_that_would_change_the_results_are_refused() {
    let cases = [
        ("hidden_act", Value::from("relu"), "unsupported_config"),
        ("position_embedding_type", Value::from("relative_key"), "unsupported_config"),
        ("is_decoder", Value::from(true), "unsupported_config"),
        ("num_attention_heads", Value::from(5), "broken_config"),
        ("num_attention_heads", Value::from(0), "broken_config"),
        ("layer_norm_eps", Value::from(-1.0), "broken_config"),
        ("max_position_embeddings", Value::from(0), "broken_config"),
        ("num_hidden_layers", Value::from(1), "unsupported_config"),
        ("num_hidden_layers", Value::from(3), "missing_tensor"),
        ("vocab_size", Value::from(95), "wrong_tensor_shape"),
        ("model_type", Value::from("albert"), "unsupported_architecture"),
    ];
    for (key, value, code) in cases {
        let mut config = config("bert");
        config.insert(key.to_owned(), value.clone());
        assert_eq!(encoder_with("bert", &config).unwrap_err().code(), code, "{key}: {value}");
    }
}
