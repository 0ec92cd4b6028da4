//! Reading safetensors files, one or sharded.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use super::weights::{Part, TensorSource, read_range};
use crate::error::LoadError;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The longest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of a model's folder.
#[derive(Debug)]
pub(super) struct SafetensorsFiles {
    files: Vec<PathBuf>,
    tensors: HashMap<String, TensorInfo>,
}

#[derive(Debug)]
struct TensorInfo {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
    len: usize,
}

impl SafetensorsFiles {
    /// Reads the headers of `model.safetensors`, or of the shards that `model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// [`LoadError::MissingFile`] if the folder has neither, [`LoadError::Io`] or [`LoadError::BrokenFile`] for a file
    /// that cannot be read or is not well-formed.
    pub(super) fn open(folder: &Path) -> Result<Self, LoadError> {
        Self::open_files(files(folder)?)
    }

    /// Reads the header of one file.
    ///
    /// # Errors
    /// [`LoadError::Io`] or [`LoadError::BrokenFile`] if it cannot be read or is not well-formed.
    pub(super) fn open_file(file: PathBuf) -> Result<Self, LoadError> {
        Self::open_files(vec![file])
    }

    fn open_files(files: Vec<PathBuf>) -> Result<Self, LoadError> {
        let mut all = Self { files, tensors: HashMap::new() };
        for file in 0..all.files.len() {
            let header = read_header(&all.files[file], file)?;
            all.tensors.extend(header);
        }
        Ok(all)
    }

    /// The files that hold the tensors.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

impl TensorSource for SafetensorsFiles {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|info| info.shape.clone())
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn read_part(&self, name: &str, part: Part) -> Result<Vec<f32>, LoadError> {
        let info = self.tensors.get(name).ok_or_else(|| LoadError::MissingTensor { tensor: name.to_owned() })?;
        let len = info.len / part.count;
        let bytes = read_range(&self.files[info.file], info.start + (part.index * len) as u64, len)?;
        match info.dtype {
            Dtype::F32 => Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
            Dtype::F16 => {
                let halves: Vec<_> = bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes)).collect();
                Ok(halves.to_f32_vec())
            }
            Dtype::BF16 => {
                let halves: Vec<_> = bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes)).collect();
                Ok(halves.to_f32_vec())
            }
            other => Err(LoadError::UnsupportedDtype { tensor: name.to_owned(), dtype: format!("{other:?}") }),
        }
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let index = folder.join(INDEX);
    if folder.join(SINGLE).is_file() {
        return Ok(vec![folder.join(SINGLE)]);
    }
    if !index.is_file() {
        let hint = "it needs model.safetensors, or model.safetensors.index.json and its shards";
        return Err(LoadError::MissingFile { path: folder.to_owned(), file: SINGLE, hint });
    }
    Ok(shard_names(&index)?.into_iter().map(|name| folder.join(name)).collect())
}

/// The names of the files that an index lists.
pub(super) fn shard_names(index: &Path) -> Result<BTreeSet<String>, LoadError> {
    let path = || index.to_owned();
    let broken = |message: String| LoadError::BrokenFile { path: path(), format: "safetensors index", message };
    let text = std::fs::read(index).map_err(|source| LoadError::Io { path: path(), source })?;
    let json: Value = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
    let Some(map) = json.get("weight_map").and_then(Value::as_object) else {
        return Err(broken("it has no object `weight_map`".to_owned()));
    };
    // A name with a folder in it could lead anywhere.
    let is_plain = |name: &&str| Path::new(name).file_name().is_some_and(|file| file == *name);
    map.iter()
        .map(|(tensor, file)| match file.as_str().filter(is_plain) {
            Some(name) => Ok(name.to_owned()),
            None => Err(broken(format!("the file of tensor `{tensor}` is not a file name: {file}"))),
        })
        .collect()
}

fn read_header(path: &Path, file: usize) -> Result<HashMap<String, TensorInfo>, LoadError> {
    let io = |source| LoadError::Io { path: path.to_owned(), source };
    let broken = |message: String| LoadError::BrokenFile { path: path.to_owned(), format: "safetensors", message };
    let mut reader = File::open(path).map_err(io)?;
    let len = reader.metadata().map_err(io)?.len();
    let mut prefix = [0; 8];
    if len < 8 {
        return Err(broken(format!("it has {len} bytes, less than the 8 of a header's length")));
    }
    reader.read_exact(&mut prefix).map_err(io)?;
    let header_len = u64::from_le_bytes(prefix);
    if header_len > MAX_HEADER || header_len > len - 8 {
        return Err(broken(format!("its header claims {header_len} bytes, but {} are left", len - 8)));
    }
    let header = read_range(path, 8, header_len as usize)?;
    // Also checks that every tensor has the bytes that its shape implies, and that they follow each other.
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| broken(error.to_string()))?;
    let data = header_len + 8;
    if data + metadata.data_len() as u64 != len {
        let end = data + metadata.data_len() as u64;
        return Err(broken(format!("its tensors end at byte {end}, the file at {len}")));
    }
    let info = |info: &safetensors::tensor::TensorInfo| TensorInfo {
        file,
        dtype: info.dtype,
        shape: info.shape.clone(),
        start: data + info.data_offsets.0 as u64,
        len: info.data_offsets.1 - info.data_offsets.0,
    };
    Ok(metadata.tensors().into_iter().map(|(name, tensor)| (name, info(tensor))).collect())
}

#[cfg(test)]
#[path = "safetensors_tests.rs"]
mod tests;
