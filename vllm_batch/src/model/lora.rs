//! Low-rank adapters (Hu and others, <https://arxiv.org/abs/2106.09685>), as PEFT writes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Value, json};

use super::config::Config;
use super::files::read_json;
use super::projection::Change;
use super::safetensors::SafetensorsFiles;
use super::weights::{Part, TensorSource};
use crate::error::LoadError;
use crate::kernels::{PackedMatrix, WeightDtype};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";

/// Keys that say how an adapter was trained, or where it belongs; its tensors say what it changes.
const WITHOUT_EFFECT: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "target_modules",
    "task_type",
];

/// What is added to a model's matrices: to each one `scale · B · A`.
#[derive(Debug)]
pub(super) struct LoraAdapter {
    rank: usize,
    scale: f32,
    tensors: SafetensorsFiles,
    files: Vec<PathBuf>,
}

impl LoraAdapter {
    /// Reads the configuration and the header of the weights.
    ///
    /// # Errors
    /// [`LoadError`] for a file that is missing or broken, or asks for what is not implemented.
    pub(super) fn open(folder: &Path) -> Result<Self, LoadError> {
        let missing = |file| LoadError::MissingFile { path: folder.to_owned(), file, hint: "PEFT writes both" };
        let config = read_json(folder, CONFIG)?.ok_or_else(|| missing(CONFIG))?;
        let (rank, scale) = rank_and_scale(&Config::new("adapter_config.json ", &config))?;
        let weights = folder.join(WEIGHTS);
        if !weights.is_file() {
            return Err(missing(WEIGHTS));
        }
        let tensors = SafetensorsFiles::open_file(weights.clone())?;
        Ok(Self { rank, scale, tensors, files: vec![folder.join(CONFIG), weights] })
    }

    /// The files that were read.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Checks that each tensor is a part of a change to one of the model's matrices, and fits it. `shape` is that of the
    /// model's tensor that Hugging Face calls so.
    ///
    /// # Errors
    /// [`LoadError::UnsupportedConfig`], [`LoadError::MissingTensor`] or [`LoadError::WrongShape`] for the first that does
    /// not.
    pub(super) fn check(&self, shape: impl Fn(&str) -> Option<Vec<usize>>) -> Result<(), LoadError> {
        let mut halves: BTreeMap<String, usize> = BTreeMap::new();
        for name in self.tensors.names() {
            let Some(module) = module(name) else {
                let message = "only lora_A.weight and lora_B.weight of the model's own matrices are".to_owned();
                return Err(LoadError::UnsupportedConfig { key: name.to_owned(), message });
            };
            *halves.entry(format!("{module}.weight")).or_default() += 1;
        }
        for tensor in halves.into_keys() {
            let shape = shape(&tensor).ok_or_else(|| LoadError::MissingTensor { tensor: tensor.clone() })?;
            let [rows, depth] = shape[..] else {
                let message = format!("an adapter changes it, and it has the shape {shape:?}; only matrices are");
                return Err(LoadError::UnsupportedConfig { key: tensor, message });
            };
            self.check_half(half(&tensor, "A"), [self.rank, depth])?;
            self.check_half(half(&tensor, "B"), [rows, self.rank])?;
        }
        Ok(())
    }

    fn check_half(&self, tensor: String, expected: [usize; 2]) -> Result<(), LoadError> {
        match self.tensors.shape(&tensor) {
            None => Err(LoadError::MissingTensor { tensor }),
            Some(actual) if actual == expected => Ok(()),
            Some(actual) => Err(LoadError::WrongShape { tensor, expected: expected.to_vec(), actual }),
        }
    }

    /// How many matrices are changed.
    pub(super) fn num_changes(&self) -> usize {
        self.tensors.names().len() / 2
    }

    /// What is added to a product with a tensor of the model, from `column` on; `None` if that is not changed.
    ///
    /// # Errors
    /// If the adapter's tensors cannot be read.
    pub(super) fn change(&self, tensor: &str, column: usize) -> Result<Option<Change>, LoadError> {
        let Some((a, b)) = self.halves(tensor)? else { return Ok(None) };
        let pack = |weights: Vec<f32>, shape| PackedMatrix::pack(&weights, shape, WeightDtype::F32);
        let (depth, rows) = (a.len() / self.rank, b.len() / self.rank);
        let (a, b) = (pack(a, (self.rank, depth))?, pack(b, (rows, self.rank))?);
        Ok(Some(Change { a, b, column, scale: self.scale }))
    }

    /// The two matrices for a tensor of the model.
    fn halves(&self, tensor: &str) -> Result<Option<Halves>, LoadError> {
        let (a, b) = (half(tensor, "A"), half(tensor, "B"));
        let is_changed = self.tensors.shape(&a).is_some();
        is_changed.then(|| Ok((self.tensors.read(&a)?, self.tensors.read(&b)?))).transpose()
    }

    /// Adds what the adapter changes to the rows from `first` on of a tensor of the model; nothing if it does not change it.
    fn add_to(&self, tensor: &str, first: usize, weights: &mut [f32]) -> Result<(), LoadError> {
        let Some((a, b)) = self.halves(tensor)? else { return Ok(()) };
        let depth = a.len() / self.rank;
        let rows = weights.par_chunks_mut(depth.max(1)).zip(b.par_chunks(self.rank).skip(first));
        rows.for_each(|(row, b)| {
            let mut change = vec![0f32; depth];
            for (a, b) in a.chunks_exact(depth.max(1)).zip(b) {
                change.iter_mut().zip(a).for_each(|(sum, a)| *sum = a.mul_add(*b, *sum));
            }
            row.iter_mut().zip(&change).for_each(|(weight, change)| *weight = change.mul_add(self.scale, *weight));
        });
        Ok(())
    }
}

/// The matrices A and B of a change, row-major.
type Halves = (Vec<f32>, Vec<f32>);

/// The rank, and the factor of the changes: `lora_alpha / r`, or `lora_alpha / √r` with `use_rslora` (Kalajdzievski,
/// <https://arxiv.org/abs/2312.03732>).
fn rank_and_scale(config: &Config<'_>) -> Result<(usize, f32), LoadError> {
    config.without_effect(WITHOUT_EFFECT);
    let only = [
        ("peft_type", json!("LORA")),
        ("bias", json!("none")),
        ("fan_in_fan_out", json!(false)),
        ("alpha_pattern", json!({})),
        ("rank_pattern", json!({})),
        ("loftq_config", json!({})),
        ("modules_to_save", json!([])),
    ];
    only.iter().try_for_each(|(key, value)| config.only(key, value))?;
    // Other ways to begin change the model's own weights before training.
    match config.get("init_lora_weights") {
        None | Some(Value::Bool(_)) => {}
        Some(way) if way == "gaussian" => {}
        Some(way) => {
            return Err(config.unsupported("init_lora_weights", format!("{way}; true, false and gaussian are")));
        }
    }
    let (rank, alpha) = (config.size_or("r", 8)?, config.number_or("lora_alpha", 8.0)?);
    let divisor = if config.flag_or("use_rslora", false)? { (rank as f64).sqrt() } else { rank as f64 };
    config.finish()?;
    let scale = (alpha / divisor) as f32;
    if rank == 0 || !scale.is_finite() {
        return Err(config.broken("r", format!("a rank of {rank} with a lora_alpha of {alpha} is no adapter")));
    }
    Ok((rank, scale))
}

/// The module that an adapter's tensor belongs to, as the model calls it.
fn module(name: &str) -> Option<&str> {
    let name = name.strip_prefix(PREFIX)?;
    name.strip_suffix(".lora_A.weight").or_else(|| name.strip_suffix(".lora_B.weight"))
}

/// The name of an adapter's matrix for a tensor of the model.
fn half(tensor: &str, which: &str) -> String {
    format!("{PREFIX}{}.lora_{which}.weight", tensor.strip_suffix(".weight").unwrap_or(tensor))
}

/// A model's tensors with the changes of adapters, in f32.
pub(super) struct Merged<'a> {
    /// The model's own.
    pub(super) model: &'a dyn TensorSource,
    /// Those that are added, one after the other.
    pub(super) adapters: &'a [LoraAdapter],
}

impl TensorSource for Merged<'_> {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.model.shape(name)
    }

    fn names(&self) -> Vec<&str> {
        self.model.names()
    }

    fn read_part(&self, name: &str, part: Part) -> Result<Vec<f32>, LoadError> {
        let mut weights = self.model.read_part(name, part)?;
        let rows = self.shape(name).and_then(|shape| shape.first().copied()).unwrap_or(0);
        for adapter in self.adapters {
            adapter.add_to(name, part.index * (rows / part.count), &mut weights)?;
        }
        Ok(weights)
    }
}
