//! Where tensors come from, and how the decoder's matrices are made of them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::{Device, Tensor};

use super::slots::{Slot, TensorNames};
use crate::error::LoadError;
use crate::kernels::{PackedMatrix, QuantFormat, WeightDtype};

/// A model's tensors by name, read on demand.
pub(super) trait TensorSource: Sync {
    /// The tensor's shape, or `None` if there is no such tensor.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// The names of all tensors.
    fn names(&self) -> Vec<&str>;

    /// Reads a tensor as f32, row-major.
    fn read(&self, name: &str) -> Result<Vec<f32>, LoadError> {
        self.read_part(name, Part::WHOLE)
    }

    /// Reads a part of a tensor as f32.
    fn read_part(&self, name: &str, part: Part) -> Result<Vec<f32>, LoadError>;

    /// Reads the blocks of a part of a quantised tensor as they are, row-major; `None` if it is not quantised.
    fn read_blocks(&self, _name: &str, _part: Part) -> Result<Option<(QuantFormat, Vec<u8>)>, LoadError> {
        Ok(None)
    }

    /// Whether any tensor is quantised.
    fn has_quantized(&self) -> bool {
        false
    }
}

/// One of `count` equal parts into which a tensor's slowest dimension, a multiple of `count`, is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) index: usize,
    pub(super) count: usize,
}

impl Part {
    /// All of it.
    pub(super) const WHOLE: Self = Self { index: 0, count: 1 };
}

/// Rows of a matrix, one after the other.
enum Rows {
    Dense(Vec<f32>),
    Blocks(QuantFormat, Vec<u8>),
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
        let (tensor, part) = self.place(slot, &[len])?;
        let mut numbers = self.source.read_part(&tensor, part)?;
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
        let (mut stacked, mut biases) = (Vec::new(), Vec::new());
        for (slot, rows) in parts {
            append(&mut stacked, self.rows(*slot, *rows, depth)?);
            if bias {
                let (tensor, part) = self.place(slot.bias(), &[*rows])?;
                biases.append(&mut self.reordered(slot.bias(), self.source.read_part(&tensor, part)?, *rows));
            }
        }
        let dtype = self.dtype_of(parts[0].0);
        let packed = stacked.iter().map(|rows| pack(rows, depth, dtype)).collect::<Result<Vec<_>, _>>()?;
        let packed = PackedMatrix::stack(packed)?;
        Ok(if bias { packed.with_bias(biases)? } else { packed })
    }

    /// Errors in embedding and head are errors of every token, so they keep 8 bits.
    fn dtype_of(&self, slot: Slot) -> WeightDtype {
        match (self.dtype, slot) {
            (WeightDtype::Q4_0, Slot::Embedding | Slot::Head) => WeightDtype::Q8_0,
            (WeightDtype::Q4_0, Slot::Encoder(slot)) if slot.is_embedding() => WeightDtype::Q8_0,
            (dtype, _) => dtype,
        }
    }

    /// The rows of a matrix in the decoder's order.
    fn rows(&self, slot: Slot, rows: usize, depth: usize) -> Result<Rows, LoadError> {
        let (tensor, part) = self.place(slot, &[rows, depth])?;
        let blocks = if self.dtype.keeps_quantized() { self.source.read_blocks(&tensor, part)? } else { None };
        if let Some((format, bytes)) = blocks {
            return Ok(Rows::Blocks(format, self.reordered(slot, bytes, rows)));
        }
        self.check_depth(&tensor, depth)?;
        Ok(Rows::Dense(self.reordered(slot, self.source.read_part(&tensor, part)?, rows)))
    }

    /// Quantising takes whole blocks of a row.
    fn check_depth(&self, tensor: &str, depth: usize) -> Result<(), LoadError> {
        let quantizes = matches!(self.dtype, WeightDtype::Q8_0 | WeightDtype::Q4_0);
        if quantizes && !depth.is_multiple_of(PackedMatrix::QUANTIZED_BLOCK) {
            let (dtype, block) = (self.dtype.as_str(), PackedMatrix::QUANTIZED_BLOCK);
            let message =
                format!("tensor `{tensor}` has rows of {depth} weights, and {dtype} needs multiples of {block}");
            return Err(LoadError::InvalidOption { option: "dtype", message });
        }
        Ok(())
    }

    /// The name of a slot's tensor and the part of it that has the expected shape.
    fn place(&self, slot: Slot, expected: &[usize]) -> Result<(String, Part), LoadError> {
        let tensor = self.names.name(slot);
        let Some(actual) = self.source.shape(&tensor) else {
            return Err(LoadError::MissingTensor { tensor });
        };
        let stacked = self.names.part_of_stack(slot);
        let part = stacked.map_or(Part::WHOLE, |index| Part { index, count: actual.first().copied().unwrap_or(0) });
        let found = if stacked.is_some() { actual.get(1..).unwrap_or_default() } else { &actual };
        if found != expected || part.index >= part.count {
            let stacked = stacked.map(|index| index + 1);
            let expected = stacked.into_iter().chain(expected.iter().copied()).collect();
            return Err(LoadError::WrongShape { tensor, expected, actual });
        }
        Ok((tensor, part))
    }

    /// Puts rows, whatever they are made of, in the decoder's order.
    fn reordered<T: Copy>(&self, slot: Slot, content: Vec<T>, rows: usize) -> Vec<T> {
        let width = content.len() / rows.max(1);
        if self.names.interleaves(slot) { deinterleave(&content, self.head_dim, width) } else { content }
    }
}

/// Appends rows to the last ones if they are stored in the same way: then one multiplication does for both. Moves the
/// first ones in, and copies only the others.
fn append(stacked: &mut Vec<Rows>, next: Rows) {
    match (stacked.last_mut(), next) {
        (Some(Rows::Dense(last)), Rows::Dense(mut next)) => last.append(&mut next),
        (Some(Rows::Blocks(format, last)), Rows::Blocks(next_format, mut next)) if *format == next_format => {
            last.append(&mut next);
        }
        (_, next) => stacked.push(next),
    }
}

fn pack(rows: &Rows, depth: usize, dtype: WeightDtype) -> candle_core::Result<PackedMatrix> {
    match rows {
        Rows::Dense(weights) => PackedMatrix::pack(weights, (weights.len() / depth.max(1), depth), dtype),
        Rows::Blocks(format, bytes) => {
            let rows = format.row_bytes(depth).and_then(|row_bytes| bytes.len().checked_div(row_bytes));
            PackedMatrix::from_blocks(*format, bytes, (rows.unwrap_or(0), depth))
        }
    }
}

/// Turns heads whose rotary pairs are rows `(2i, 2i + 1)` into heads whose pairs are rows `(i, i + head_dim / 2)`. A row
/// has `width` elements.
fn deinterleave<T: Copy>(rows: &[T], head_dim: usize, width: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(rows.len());
    for head in rows.chunks(head_dim * width) {
        for half in 0..2 {
            for i in 0..head_dim / 2 {
                out.extend_from_slice(&head[(2 * i + half) * width..][..width]);
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
    use crate::kernels::embed;
    use crate::model::slots::Format;
    use crate::model::spec::NormPlacement;

    /// Tensors of blocks: name, format, and number of rows of 32 weights.
    struct Blocks(Vec<(&'static str, QuantFormat, usize)>);

    impl Blocks {
        fn find(&self, name: &str) -> (QuantFormat, usize) {
            let (_, format, rows) = self.0.iter().find(|tensor| tensor.0 == name).unwrap();
            (*format, *rows)
        }

        fn bytes(&self, name: &str) -> Vec<u8> {
            let (format, rows) = self.find(name);
            let row_bytes = format.row_bytes(32).unwrap();
            // Small scales; what codes there are does not matter.
            let byte = |i: usize| if i % row_bytes == 1 { 0x2c } else { (i * 37 + name.len()) as u8 };
            (0..rows * row_bytes).map(byte).collect()
        }
    }

    impl TensorSource for Blocks {
        fn shape(&self, name: &str) -> Option<Vec<usize>> {
            Some(vec![self.find(name).1, 32])
        }

        fn names(&self) -> Vec<&str> {
            self.0.iter().map(|tensor| tensor.0).collect()
        }

        fn read_part(&self, name: &str, _: Part) -> Result<Vec<f32>, LoadError> {
            let (format, rows) = self.find(name);
            let matrix = PackedMatrix::from_blocks(format, &self.bytes(name), (rows, 32))?;
            Ok(all_rows(&matrix))
        }

        fn read_blocks(&self, name: &str, _: Part) -> Result<Option<(QuantFormat, Vec<u8>)>, LoadError> {
            Ok(Some((self.find(name).0, self.bytes(name))))
        }
    }

    fn all_rows(matrix: &PackedMatrix) -> Vec<f32> {
        let rows: Vec<u32> = (0..matrix.rows() as u32).collect();
        let y = Tensor::zeros((rows.len(), matrix.depth()), candle_core::DType::F32, &Device::Cpu).unwrap();
        embed(&rows, matrix, &y).unwrap();
        y.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn parts_of_different_formats_are_one_matrix_in_the_same_order_as_widened_ones() {
        let (q, k, v) = ("blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight");
        let source = Blocks(vec![(q, QuantFormat::Q4_0, 80), (k, QuantFormat::Q4_0, 16), (v, QuantFormat::Q8_0, 16)]);
        let names = TensorNames {
            format: Format::Gguf,
            fused: false,
            interleaved: true,
            unit_offset: false,
            norms: NormPlacement::Pre,
            prefix: "",
        };
        let load = |dtype| {
            let loader = WeightLoader { source: &source, names, dtype, head_dim: 8 };
            loader.matrix(&[(Slot::Query(0), 80), (Slot::Key(0), 16), (Slot::Value(0), 16)], 32, false).unwrap()
        };
        let (native, widened) = (load(WeightDtype::Auto), load(WeightDtype::F32));
        assert_eq!((native.num_parts(), widened.num_parts()), (2, 1));
        assert_eq!(all_rows(&native), all_rows(&widened));
    }

    #[test]
    fn pairs_of_neighbours_become_pairs_of_halves() {
        let rows: Vec<f32> = (0..8).flat_map(|row| [row as f32, row as f32 + 0.5]).collect();
        let expected: Vec<f32> = [0, 2, 1, 3, 4, 6, 5, 7].iter().flat_map(|r| [*r as f32, *r as f32 + 0.5]).collect();
        assert_eq!(deinterleave(&rows, 4, 2), expected);
    }
}
