//! Reading GGUF files (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>), versions 2 and 3.
//!
//! Nothing in a file is believed: every length is checked against what is left of the file before memory is taken.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use serde_json::{Map, Value};

use super::weights::{Part, TensorSource, read_range};
use crate::error::LoadError;
use crate::kernels::QuantFormat;

/// The metadata of a GGUF file, and where its tensors lie.
#[derive(Debug)]
pub(super) struct GgufFile {
    path: PathBuf,
    /// Keys as in the file; numbers that JSON does not have (NaN) are null.
    pub(super) metadata: Map<String, Value>,
    tensors: HashMap<String, TensorInfo>,
}

#[derive(Debug)]
struct TensorInfo {
    /// The slowest dimension first, as everywhere but in the file.
    shape: Vec<usize>,
    dtype: GgmlDType,
    start: u64,
    len: usize,
}

impl GgufFile {
    /// Reads the header of a file; tensors are read on demand.
    ///
    /// # Errors
    /// [`LoadError::Io`] if the file cannot be read, [`LoadError::BrokenFile`] with the place if it is not well-formed,
    /// [`LoadError::UnsupportedDtype`] for a tensor in a format that is not implemented.
    pub(super) fn open(path: &Path) -> Result<Self, LoadError> {
        let io = |source| LoadError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let mut reader = HeaderReader { path, reader: BufReader::new(file), len, position: 0, num_elements: 0 };
        let (num_tensors, num_values) = reader.preamble()?;
        let mut metadata = Map::new();
        for _ in 0..num_values {
            let key = reader.string("a metadata key")?;
            let kind = reader.u32(&key)?;
            let value = reader.value(kind, &key, 0)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(reader.broken(format!("the metadata key `{key}` occurs twice")));
            }
        }
        let tensors = reader.tensors(num_tensors, &metadata)?;
        Ok(Self { path: path.to_owned(), metadata, tensors })
    }

    /// A value of the metadata.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, LoadError> {
        self.tensors.get(name).ok_or_else(|| LoadError::MissingTensor { tensor: name.to_owned() })
    }

    fn bytes(&self, info: &TensorInfo, part: Part) -> Result<Vec<u8>, LoadError> {
        let len = info.len / part.count;
        read_range(&self.path, info.start + (part.index * len) as u64, len)
    }
}

impl TensorSource for GgufFile {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|info| info.shape.clone())
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn read_part(&self, name: &str, part: Part) -> Result<Vec<f32>, LoadError> {
        let info = self.info(name)?;
        let bytes = self.bytes(info, part)?;
        let storage = QStorage::from_data(Cow::Owned(bytes), &Device::Cpu, info.dtype)?;
        let mut shape = info.shape.clone();
        shape[0] /= part.count;
        Ok(QTensor::new(storage, shape)?.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?)
    }

    fn read_blocks(&self, name: &str, part: Part) -> Result<Option<(QuantFormat, Vec<u8>)>, LoadError> {
        let info = self.info(name)?;
        quantized(info.dtype).map(|format| Ok((format, self.bytes(info, part)?))).transpose()
    }

    fn has_quantized(&self) -> bool {
        self.tensors.values().any(|info| quantized(info.dtype).is_some())
    }
}

/// The most values or tensors that a header may announce; real ones have hundreds.
const MAX_ENTRIES: u64 = 1 << 20;
/// The most elements that all arrays together may announce; vocabularies have some hundred thousand.
const MAX_ELEMENTS: u64 = 1 << 24;
/// Arrays of arrays are allowed by the format, but no deeper than this.
const MAX_DEPTH: usize = 4;

struct HeaderReader<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    len: u64,
    position: u64,
    /// Elements of all arrays so far.
    num_elements: u64,
}

impl HeaderReader<'_> {
    /// Magic, version and counts: `(tensors, metadata values)`.
    fn preamble(&mut self) -> Result<(u64, u64), LoadError> {
        if &self.bytes::<4>("the magic number")? != b"GGUF" {
            return Err(self.broken("it does not start with `GGUF`".to_owned()));
        }
        let version = self.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(self.broken(format!("version {version} is not supported; 2 and 3 are")));
        }
        let (tensors, values) = (self.u64("the number of tensors")?, self.u64("the number of metadata values")?);
        if tensors > MAX_ENTRIES || values > MAX_ENTRIES {
            return Err(self.broken(format!("it announces {tensors} tensors and {values} metadata values")));
        }
        Ok((tensors, values))
    }

    fn value(&mut self, kind: u32, key: &str, depth: usize) -> Result<Value, LoadError> {
        Ok(match kind {
            0 => self.bytes::<1>(key)?[0].into(),
            1 => self.bytes::<1>(key)?[0].cast_signed().into(),
            2 => u16::from_le_bytes(self.bytes(key)?).into(),
            3 => i16::from_le_bytes(self.bytes(key)?).into(),
            4 => self.u32(key)?.into(),
            5 => i32::from_le_bytes(self.bytes(key)?).into(),
            6 => f32::from_le_bytes(self.bytes(key)?).into(),
            7 => (self.bytes::<1>(key)?[0] != 0).into(),
            8 => self.string(key)?.into(),
            9 => self.array(key, depth)?,
            10 => self.u64(key)?.into(),
            11 => i64::from_le_bytes(self.bytes(key)?).into(),
            12 => f64::from_le_bytes(self.bytes(key)?).into(),
            other => return Err(self.broken(format!("the metadata key `{key}` has the unknown type {other}"))),
        })
    }

    fn array(&mut self, key: &str, depth: usize) -> Result<Value, LoadError> {
        if depth == MAX_DEPTH {
            return Err(self.broken(format!("the arrays of `{key}` are nested too deep")));
        }
        let (kind, count) = (self.u32(key)?, self.u64(key)?);
        self.num_elements = self.num_elements.saturating_add(count);
        if self.num_elements > MAX_ELEMENTS {
            return Err(self.broken(format!("the array `{key}` announces {count} elements, too many for all arrays")));
        }
        // An element takes at least one byte, an array or string at least eight.
        let smallest = if matches!(kind, 8 | 9) { 8 } else { 1 };
        self.require(count.saturating_mul(smallest), key)?;
        (0..count).map(|_| self.value(kind, key, depth + 1)).collect::<Result<Vec<_>, _>>().map(Value::Array)
    }

    fn tensors(&mut self, count: u64, metadata: &Map<String, Value>) -> Result<HashMap<String, TensorInfo>, LoadError> {
        let infos: Vec<_> = (0..count).map(|_| self.tensor()).collect::<Result<_, _>>()?;
        let alignment = metadata.get("general.alignment").map_or(Some(32), Value::as_u64);
        let Some(alignment) = alignment.filter(|alignment| alignment.is_power_of_two() && *alignment <= 1 << 20) else {
            return Err(self.broken("`general.alignment` is not a power of two up to 2^20".to_owned()));
        };
        let data = self.position.next_multiple_of(alignment);
        let mut tensors = HashMap::new();
        for (name, mut info) in infos {
            info.start = data.saturating_add(info.start);
            if info.start.saturating_add(info.len as u64) > self.len {
                let end = info.start.saturating_add(info.len as u64);
                return Err(self.broken(format!("tensor `{name}` ends at byte {end}, the file at {}", self.len)));
            }
            if tensors.insert(name.clone(), info).is_some() {
                return Err(self.broken(format!("tensor `{name}` occurs twice")));
            }
        }
        self.check_overlap(&tensors)?;
        Ok(tensors)
    }

    /// Tensors that share bytes would take more memory than the file has.
    fn check_overlap(&self, tensors: &HashMap<String, TensorInfo>) -> Result<(), LoadError> {
        let mut places: Vec<_> = tensors.iter().map(|(name, info)| (info.start, info.len as u64, name)).collect();
        places.sort_unstable();
        match places.windows(2).find(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
            Some(pair) => Err(self.broken(format!("tensors `{}` and `{}` overlap", pair[0].2, pair[1].2))),
            None => Ok(()),
        }
    }

    /// One tensor's description; `start` is still relative to the data section.
    fn tensor(&mut self) -> Result<(String, TensorInfo), LoadError> {
        let name = self.string("a tensor's name")?;
        let rank = self.u32(&name)?;
        if !(1..=4).contains(&rank) {
            return Err(self.broken(format!("tensor `{name}` has {rank} dimensions")));
        }
        let mut shape = (0..rank).map(|_| self.u64(&name)).collect::<Result<Vec<_>, _>>()?;
        let (kind, start) = (self.u32(&name)?, self.u64(&name)?);
        let dtype = dtype(kind)
            .ok_or_else(|| LoadError::UnsupportedDtype { tensor: name.clone(), dtype: format!("GGML type {kind}") })?;
        let count = shape.iter().try_fold(1u64, |count, dim| count.checked_mul(*dim).filter(|count| *count > 0));
        let block = dtype.block_size() as u64;
        let count = count.filter(|_| shape[0].is_multiple_of(block));
        let len = count.and_then(|count| (count / block).checked_mul(dtype.type_size() as u64));
        let Some(len) = len.filter(|len| *len <= self.len) else {
            return Err(self.broken(format!("tensor `{name}` cannot have the dimensions {shape:?} as {dtype:?}")));
        };
        shape.reverse();
        let shape = shape.iter().map(|dim| *dim as usize).collect();
        Ok((name, TensorInfo { shape, dtype, start, len: len as usize }))
    }

    fn u32(&mut self, what: &str) -> Result<u32, LoadError> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, LoadError> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    fn string(&mut self, what: &str) -> Result<String, LoadError> {
        let len = self.u64(what)?;
        self.require(len, what)?;
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes, what)?;
        // Vocabularies hold pieces of characters now and then; what is not UTF-8 cannot be matched, only shown.
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N], LoadError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), LoadError> {
        self.require(bytes.len() as u64, what)?;
        self.reader.read_exact(bytes).map_err(|source| LoadError::Io { path: self.path.to_owned(), source })?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Checks that the file has `len` more bytes.
    fn require(&self, len: u64, what: &str) -> Result<(), LoadError> {
        let left = self.len.saturating_sub(self.position);
        if len <= left {
            return Ok(());
        }
        Err(self.broken(format!("{what} at byte {} needs {len} bytes, but {left} are left", self.position)))
    }

    fn broken(&self, message: String) -> LoadError {
        LoadError::BrokenFile { path: self.path.to_owned(), format: "GGUF", message }
    }
}

/// GGML's numbers for its formats.
fn dtype(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

/// The formats that are multiplied as they are.
fn quantized(dtype: GgmlDType) -> Option<QuantFormat> {
    Some(match dtype {
        GgmlDType::Q4_0 => QuantFormat::Q4_0,
        GgmlDType::Q4_1 => QuantFormat::Q4_1,
        GgmlDType::Q5_0 => QuantFormat::Q5_0,
        GgmlDType::Q5_1 => QuantFormat::Q5_1,
        GgmlDType::Q8_0 => QuantFormat::Q8_0,
        GgmlDType::Q2K => QuantFormat::Q2_K,
        GgmlDType::Q3K => QuantFormat::Q3_K,
        GgmlDType::Q4K => QuantFormat::Q4_K,
        GgmlDType::Q5K => QuantFormat::Q5_K,
        GgmlDType::Q6K => QuantFormat::Q6_K,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "gguf_tests.rs"]
mod tests;
