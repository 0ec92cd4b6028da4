//! What do quantised weights cost in precision? The perplexity of a text with the weights widened to f32 and in other
//! formats, and how often the most likely token is the same.
//!
//! The text, `benches/data/us_constitution.txt`, is read in pieces of 512 tokens, each on its own: the perplexity is
//! `exp(-mean ln p(token | those before it in its piece))` over all tokens but the first of each piece. `auto` multiplies
//! with the weights as the file has them; for the other formats the file is widened to f32 first and quantised on load.
//!
//! `cargo bench --bench perplexity` takes the demo model; `-- MODEL.gguf` another one with a context of 8,192 tokens.

#[path = "../examples/demo_model/mod.rs"]
mod demo_model;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use vllm_batch::{BatchEngineExt, LocalEngine, Prompt, Request, RequestOutput, SamplingParams, WeightDtype};

const TEXT: &str = include_str!("data/us_constitution.txt");
const PIECE: usize = 512;
const ON_LOAD: [WeightDtype; 4] = [WeightDtype::F16, WeightDtype::Bf16, WeightDtype::Q8_0, WeightDtype::Q4_0];

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let argument = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let model = argument.map_or_else(demo_model::gguf, |path| Ok(PathBuf::from(path)))?;
    let folder = tempfile::tempdir()?;
    let wide = folder.path().join("f32.gguf");
    widen(&model, &wide)?;
    let pieces = pieces(&model)?;
    let reference = Reading::new(&model, WeightDtype::F32, &pieces)?;
    let mut out = io::stdout();
    writeln!(out, "dtype      perplexity  to float32  same most likely token  ({} tokens)", reference.chosen.len())?;
    reference.print(&mut out, WeightDtype::F32, &reference)?;
    Reading::new(&model, WeightDtype::Auto, &pieces)?.print(&mut out, WeightDtype::Auto, &reference)?;
    for dtype in ON_LOAD {
        Reading::new(&wide, dtype, &pieces)?.print(&mut out, dtype, &reference)?;
    }
    Ok(())
}

/// The file with all its tensors as f32.
fn widen(source: &Path, target: &Path) -> Outcome<()> {
    let mut file = File::open(source)?;
    let content = gguf_file::Content::read(&mut file)?;
    let mut names: Vec<_> = content.tensor_infos.keys().collect();
    names.sort();
    let mut wide = Vec::new();
    for name in names {
        let tensor = content.tensor(&mut file, name, &Device::Cpu)?.dequantize(&Device::Cpu)?;
        wide.push((name.as_str(), QTensor::quantize(&tensor, GgmlDType::F32)?));
    }
    let metadata: Vec<_> = content.metadata.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let tensors: Vec<_> = wide.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let mut out = BufWriter::new(File::create(target)?);
    gguf_file::write(&mut out, &metadata, &tensors)?;
    Ok(out.flush()?)
}

/// The text's tokens in pieces.
fn pieces(model: &Path) -> Outcome<Vec<Vec<u32>>> {
    let request = Request::new("text", TEXT).with_sampling_params(SamplingParams::greedy().with_max_tokens(1));
    let output = answers(model, WeightDtype::Auto, vec![request])?.remove(0);
    Ok(output.prompt_token_ids.chunks(PIECE).map(<[u32]>::to_vec).collect())
}

fn answers(model: &Path, dtype: WeightDtype, requests: Vec<Request>) -> Outcome<Vec<RequestOutput>> {
    let engine = LocalEngine::builder(model.to_owned()).dtype(dtype).build()?;
    Ok(engine.generate(requests).into_iter().collect::<Result<_, _>>()?)
}

/// What a model says of the text.
struct Reading {
    /// The log-probability of each token but the first of each piece.
    chosen: Vec<f32>,
    /// The most likely token at each of these places.
    likeliest: Vec<Option<u32>>,
}

impl Reading {
    fn new(model: &Path, dtype: WeightDtype, pieces: &[Vec<u32>]) -> Outcome<Self> {
        let params = SamplingParams::greedy().with_max_tokens(1).with_prompt_logprobs(1);
        let request = |(index, piece): (usize, &Vec<u32>)| {
            Request::new(index.to_string(), Prompt::TokenIds(piece.clone())).with_sampling_params(params.clone())
        };
        let outputs = answers(model, dtype, pieces.iter().enumerate().map(request).collect())?;
        let places: Vec<_> =
            outputs.into_iter().filter_map(|output| output.prompt_logprobs).flatten().flatten().collect();
        Ok(Self {
            chosen: places.iter().map(|place| place.chosen.logprob).collect(),
            likeliest: places.iter().map(|place| place.top[0].token_id).collect(),
        })
    }

    fn perplexity(&self) -> f64 {
        let sum: f64 = self.chosen.iter().copied().map(f64::from).sum();
        (-sum / self.chosen.len() as f64).exp()
    }

    /// The share of places at which both have the same most likely token.
    fn agreement(&self, other: &Self) -> f64 {
        let same = self.likeliest.iter().zip(&other.likeliest).filter(|(a, b)| a == b).count();
        same as f64 / self.likeliest.len() as f64
    }

    fn print(&self, out: &mut impl Write, dtype: WeightDtype, reference: &Self) -> io::Result<()> {
        writeln!(
            out,
            "{:10} {:10.3}  {:10.4}  {:21.1} %",
            dtype.as_str(),
            self.perplexity(),
            self.perplexity() / reference.perplexity(),
            100.0 * self.agreement(reference),
        )
    }
}
