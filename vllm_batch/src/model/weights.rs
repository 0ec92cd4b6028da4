//! Where tensors come from, and how the decoder's matrices are made of them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::{Device, Tensor};

use super::slots::{Slot, TensorNames};
use crate::error::LoadError;
use crate::kernels::{PackedMatrix, WeightDtype};

/// A model's tensors by name, read on demand.
pub(super) trait TensorSource: Sync {
    /// The tensor's shape, or `None` if there is no such tensor.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// The names of all tensors.
    fn names(&self) -> Vec<&str>;

    /// Reads a tensor as f32, row-major.
    fn read(&self, name: &str) -> Result<Vec<f32>, LoadError> {
        self.read_part(name, 0, 1)
    }

    /// Reads the part `index` of `count` parts into which the slowest dimension is divided; it must be a multiple of
    /// `count`.
    fn read_part(&self, name: &str, index: usize, count: usize) -> Result<Vec<f32>, LoadError>;
}

/// Reads the slots of a decoder from a source of tensors.
pub(super) struct WeightLoader<'a> {
    pub(super) source: &'a dyn TensorSource,
    pub(super) names: TensorNames,
    pub(super) dtype: WeightDtype,
    /// Width of a head, where query and key rows must be reordered.
    pub(super) head_dim: usize,
}

impl WeightLoader<'_> {
    /// Refuses tensors that none of the network's slots takes: what they are for would be missing from the results.
    pub(super) fn check_all_used(&self, slots: Vec<Slot>) -> Result<(), LoadError> {
        let used: HashSet<String> = slots.into_iter().map(|slot| self.names.name(slot)).collect();
        // Of another part of the model, derived from the configuration, kept in the file although the embedding
        // serves as the head, or for an encoder's own way of pooling, which sentence encoders do not use.
        let is_harmless = |name: &str| {
            !name.starts_with(self.names.prefix)
                || ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"].contains(&name)
                || name.ends_with(".rotary_emb.inv_freq")
                || name.ends_with("embeddings.position_ids")
                || name[self.names.prefix.len()..].starts_with("pooler.dense.")
                || name == self.names.name(Slot::Head)
        };
        match self.source.names().into_iter().filter(|name| !used.contains(*name) && !is_harmless(name)).min() {
            Some(name) => Err(LoadError::UnsupportedConfig {
                key: name.to_owned(),
                message: "the weights have this tensor, and this architecture has no use for it".to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// The weights of a normalisation of `len` numbers.
    pub(super) fn norm(&self, slot: Slot, len: usize) -> Result<Tensor, LoadError> {
        let mut numbers = self.numbers(slot, &[len])?;
        if self.names.unit_offset {
            for weight in &mut numbers {
                *weight += 1.0;
            }
        }
        Ok(Tensor::from_vec(numbers, len, &Device::Cpu)?)
    }

    /// One matrix of the given parts, one below the other, each `(slot, rows)`; all have `depth` columns. With `bias`,
    /// each part's bias as well.
    pub(super) fn matrix(&self, parts: &[(Slot, usize)], depth: usize, bias: bool) -> Result<PackedMatrix, LoadError> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for (slot, rows) in parts {
            append(&mut weights, self.numbers(*slot, &[*rows, depth])?);
            if bias {
                append(&mut biases, self.numbers(slot.bias(), &[*rows])?);
            }
        }
        let rows = parts.iter().map(|(_, rows)| rows).sum();
        let packed = PackedMatrix::pack(&weights, (rows, depth), self.dtype)?;
        Ok(if bias { packed.with_bias(biases)? } else { packed })
    }

    fn numbers(&self, slot: Slot, expected: &[usize]) -> Result<Vec<f32>, LoadError> {
        let tensor = self.names.name(slot);
        let Some(actual) = self.source.shape(&tensor) else {
            return Err(LoadError::MissingTensor { tensor });
        };
        let part = self.names.part_of_stack(slot);
        let (index, count) = part.map_or((0, 1), |index| (index, actual.first().copied().unwrap_or(0)));
        let found = if part.is_some() { actual.get(1..).unwrap_or_default() } else { &actual };
        if found != expected || index >= count {
            let stacked = part.map(|index| index + 1);
            let expected = stacked.into_iter().chain(expected.iter().copied()).collect();
            return Err(LoadError::WrongShape { tensor, expected, actual });
        }
        let numbers = self.source.read_part(&tensor, index, count)?;
        let depth = numbers.len() / expected[0].max(1);
        Ok(if self.names.interleaves(slot) { deinterleave(&numbers, self.head_dim, depth) } else { numbers })
    }
}

/// Moves the first part in, and copies only the others.
fn append(all: &mut Vec<f32>, part: Vec<f32>) {
    if all.is_empty() {
        *all = part;
    } else {
        all.extend_from_slice(&part);
    }
}

/// Turns heads whose rotary pairs are rows `(2i, 2i + 1)` into heads whose pairs are rows `(i, i + head_dim / 2)`.
fn deinterleave(rows: &[f32], head_dim: usize, depth: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len());
    for head in rows.chunks(head_dim * depth) {
        for half in 0..2 {
            for i in 0..head_dim / 2 {
                out.extend_from_slice(&head[(2 * i + half) * depth..][..depth]);
            }
        }
    }
    out
}

/// Reads `len` bytes of a file from `start` on.
pub(super) fn read_range(path: &Path, start: u64, len: usize) -> Result<Vec<u8>, LoadError> {
    let io = |source| LoadError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    file.seek(SeekFrom::Start(start)).map_err(io)?;
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes).map_err(io)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_neighbours_become_pairs_of_halves() {
        let rows: Vec<f32> = (0..8).flat_map(|row| [row as f32, row as f32 + 0.5]).collect();
        let expected: Vec<f32> = [0, 2, 1, 3, 4, 6, 5, 7].iter().flat_map(|r| [*r as f32, *r as f32 + 0.5]).collect();
        assert_eq!(deinterleave(&rows, 4, 2), expected);
    }
}
