//! Weight matrices in the order in which they are read.

use candle_core::{DType, Device, Result, Storage, Tensor, bail};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::LANES;
use super::dtype::WeightDtype;
use super::quant::{BLOCK, QuantFormat, QuantMatrix, quantize_q4_0, quantize_q8_0};

/// Panels that one task multiplies: [`GROUP_WIDTH`] columns of the result.
pub(super) const PANELS_PER_GROUP: usize = 4;
/// Columns of the result that one task computes.
pub(super) const GROUP_WIDTH: usize = PANELS_PER_GROUP * LANES;

/// A weight matrix of `rows` × `depth`: parts with the same depth, one below the other, each stored in the order in which
/// a multiplication reads it.
#[derive(Debug, Clone)]
pub(crate) struct PackedMatrix {
    pub(super) parts: Vec<Part>,
    /// One number per row, or nothing.
    pub(super) bias: Option<Vec<f32>>,
    depth: usize,
}

/// Rows that are stored in the same way.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Dense(DensePanels),
    Quantized(QuantMatrix),
}

impl Part {
    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Dense(dense) => dense.rows,
            Self::Quantized(quantized) => quantized.rows(),
        }
    }
}

/// Dense rows, stored as panels of 16: a tensor of shape `[groups, 4, depth, 16]`, the last rows padded with zeros.
#[derive(Debug, Clone)]
pub(super) struct DensePanels {
    panels: Tensor,
    rows: usize,
}

impl DensePanels {
    /// Gives `f` the weights and returns what it makes of them.
    pub(super) fn with<T>(&self, f: impl FnOnce(&Weights<'_>) -> T) -> Result<T> {
        let (storage, layout) = self.panels.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else { bail!("packed weights are not in this processor's memory") };
        Ok(f(&Weights::of(storage, layout)?))
    }
}

impl PackedMatrix {
    /// Weights of a block when [`pack`](Self::pack) quantises: rows must be multiples of it.
    pub(crate) const QUANTIZED_BLOCK: usize = BLOCK;

    /// Packs a row-major matrix of shape `[rows, depth]`, quantised if `dtype` says so.
    ///
    /// # Errors
    /// If the number of weights is not `rows * depth`, or a quantised row is not a whole number of blocks.
    pub(crate) fn pack(weights: &[f32], shape: (usize, usize), dtype: WeightDtype) -> Result<Self> {
        let (rows, depth) = shape;
        if weights.len() != rows * depth {
            bail!("{} weights cannot be {rows} rows of {depth}", weights.len());
        }
        let panels = match dtype {
            WeightDtype::Auto | WeightDtype::F32 => pack_as(weights, shape, |weight| weight)?,
            WeightDtype::F16 => pack_as(weights, shape, f16::from_f32)?,
            WeightDtype::Bf16 => pack_as(weights, shape, bf16::from_f32)?,
            WeightDtype::Q8_0 => return Self::from_blocks(QuantFormat::Q8_0, &quantize_q8_0(weights), shape),
            WeightDtype::Q4_0 => return Self::from_blocks(QuantFormat::Q4_0, &quantize_q4_0(weights), shape),
        };
        Ok(Self { parts: vec![Part::Dense(DensePanels { panels, rows })], bias: None, depth })
    }

    /// Packs a matrix of shape `[rows, depth]` out of a file's quantised blocks, row after row, without any loss.
    ///
    /// # Errors
    /// If a row is not a whole number of blocks, or the number of bytes is not that of the rows.
    pub(crate) fn from_blocks(format: QuantFormat, bytes: &[u8], shape: (usize, usize)) -> Result<Self> {
        let matrix = QuantMatrix::pack(format, bytes, shape)?;
        Ok(Self { parts: vec![Part::Quantized(matrix)], bias: None, depth: shape.1 })
    }

    /// Matrices without biases, one below the other, as one.
    ///
    /// # Errors
    /// If their depths differ.
    pub(crate) fn stack(matrices: Vec<Self>) -> Result<Self> {
        let depth = matrices.first().map_or(0, |matrix| matrix.depth);
        if matrices.iter().any(|matrix| matrix.depth != depth) {
            bail!("matrices of different depths cannot be stacked");
        }
        Ok(Self { parts: matrices.into_iter().flat_map(|matrix| matrix.parts).collect(), bias: None, depth })
    }

    /// Adds a bias of one number per row to every product.
    ///
    /// # Errors
    /// If the number of values is not the number of rows.
    pub(crate) fn with_bias(mut self, bias: Vec<f32>) -> Result<Self> {
        if bias.len() != self.rows() {
            bail!("a bias of {} numbers does not fit {} rows", bias.len(), self.rows());
        }
        self.bias = Some(bias);
        Ok(self)
    }

    /// Number of rows: the width of a product.
    pub(crate) fn rows(&self) -> usize {
        self.parts.iter().map(Part::rows).sum()
    }

    /// Whether a part is multiplied with quantised rows.
    pub(crate) fn is_quantized(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Quantized(_)))
    }

    /// Number of parts that are stored in different ways.
    #[cfg(test)]
    pub(crate) fn num_parts(&self) -> usize {
        self.parts.len()
    }

    /// Length of a row: the width of what is multiplied.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }
}

/// Packs and converts, all panels in parallel.
fn pack_as<T>(weights: &[f32], (rows, depth): (usize, usize), convert: impl Fn(f32) -> T + Sync) -> Result<Tensor>
where
    T: candle_core::WithDType + Default,
{
    let groups = rows.div_ceil(GROUP_WIDTH);
    let shape = (groups, PANELS_PER_GROUP, depth, LANES);
    let count = groups * GROUP_WIDTH * depth;
    aligned_tensor(count, shape, |packed: &mut [T]| {
        packed.par_chunks_mut(depth.max(1) * LANES).enumerate().for_each(|(panel, packed)| {
            let first = (panel * LANES).min(rows);
            let last = (first + LANES).min(rows);
            for (lane, row) in weights[first * depth..last * depth].chunks(depth.max(1)).enumerate() {
                for (k, weight) in row.iter().enumerate() {
                    packed[k * LANES + lane] = convert(*weight);
                }
            }
        });
    })
}

/// A tensor whose first number lies at the start of a cache line, filled by `fill`: a register's worth of weights is then
/// one access to memory, not two.
fn aligned_tensor<T>(count: usize, shape: (usize, usize, usize, usize), fill: impl FnOnce(&mut [T])) -> Result<Tensor>
where
    T: candle_core::WithDType + Default,
{
    const CACHE_LINE: usize = 64;
    let slack = CACHE_LINE / size_of::<T>();
    let mut numbers = vec![T::default(); count + slack];
    let start = numbers.as_ptr().align_offset(CACHE_LINE).min(slack);
    fill(&mut numbers[start..start + count]);
    let len = numbers.len();
    Tensor::from_vec(numbers, len, &Device::Cpu)?.narrow(0, start, count)?.reshape(shape)
}

/// The weights of one dtype, as the kernels see them.
pub(super) enum Weights<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

impl<'a> Weights<'a> {
    /// The numbers of a contiguous tensor.
    pub(super) fn of(storage: &'a candle_core::CpuStorage, layout: &candle_core::Layout) -> Result<Self> {
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("packed weights must be contiguous") };
        Ok(match candle_core::backend::BackendStorage::dtype(storage) {
            DType::F16 => Self::F16(&storage.as_slice::<f16>()?[start..end]),
            DType::BF16 => Self::Bf16(&storage.as_slice::<bf16>()?[start..end]),
            _ => Self::F32(&storage.as_slice::<f32>()?[start..end]),
        })
    }

    /// `len` weights from `start` on as f32: where they lie, or converted into `scratch`.
    pub(super) fn widened<'s>(&'s self, start: usize, len: usize, scratch: &'s mut Vec<f32>) -> &'s [f32] {
        if let Self::F32(weights) = self {
            return &weights[start..start + len];
        }
        scratch.resize(len, 0.0);
        match self {
            Self::F16(weights) => weights[start..start + len].convert_to_f32_slice(scratch),
            Self::Bf16(weights) => weights[start..start + len].convert_to_f32_slice(scratch),
            Self::F32(_) => {}
        }
        scratch
    }

    /// One weight as f32.
    pub(super) fn get(&self, index: usize) -> f32 {
        match self {
            Self::F32(weights) => weights[index],
            Self::F16(weights) => weights[index].to_f32(),
            Self::Bf16(weights) => weights[index].to_f32(),
        }
    }

    /// Whether using the weights costs a conversion.
    pub(super) fn is_narrow(&self) -> bool {
        !matches!(self, Self::F32(_))
    }
}
