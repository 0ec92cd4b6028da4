//! What the benchmark of the matrix product needs of it. Not part of the public interface.

use candle_core::{DType, Device, Result, Tensor};

use super::isa::Isa;
use super::packed::PackedMatrix;
use super::quant::{QuantFormat, sum_in_registers};
use super::{LinearScratch, WeightDtype, linear};

/// Multiply-adds count as two operations, as everywhere.
const OPERATIONS: usize = 2;

/// A product of one shape: rows of activations times a matrix.
#[derive(Debug)]
pub struct Product {
    x: Tensor,
    y: Tensor,
    scratch: LinearScratch,
    weights: PackedMatrix,
}

impl Product {
    /// The formats that [`new`](Self::new) knows.
    pub const FORMATS: [&str; 8] = ["F32", "Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K"];

    /// `tokens` rows of `depth` numbers times a matrix of `rows` rows of that depth. Its content is arbitrary.
    ///
    /// # Errors
    /// If the format has no rows of this depth, or is unknown.
    pub fn new(format: &str, tokens: usize, rows: usize, depth: usize) -> Result<Self> {
        let numbers = |count| (0..count).map(|i| ((i * 7919) % 2003) as f32 / 1000.0 - 1.0).collect::<Vec<f32>>();
        let quantized = |format: QuantFormat| {
            let bytes = vec![0x11; rows * format.row_bytes(depth).unwrap_or(0)];
            PackedMatrix::from_blocks(format, &bytes, (rows, depth))
        };
        let weights = match format {
            "F32" => PackedMatrix::pack(&numbers(rows * depth), (rows, depth), WeightDtype::F32),
            "Q4_0" => quantized(QuantFormat::Q4_0),
            "Q4_1" => quantized(QuantFormat::Q4_1),
            "Q5_0" => quantized(QuantFormat::Q5_0),
            "Q8_0" => quantized(QuantFormat::Q8_0),
            "Q4_K" => quantized(QuantFormat::Q4_K),
            "Q5_K" => quantized(QuantFormat::Q5_K),
            "Q6_K" => quantized(QuantFormat::Q6_K),
            other => candle_core::bail!("no format {other}"),
        };
        let x = Tensor::from_vec(numbers(tokens * depth), (tokens, depth), &Device::Cpu)?;
        let y = Tensor::zeros((tokens, rows), DType::F32, &Device::Cpu)?;
        Ok(Self { x, y, scratch: LinearScratch::default(), weights: weights? })
    }

    /// The product, on this thread, in the memory of the one before.
    ///
    /// # Errors
    /// None with the shapes of [`new`](Self::new).
    pub fn run(&mut self) -> Result<&Tensor> {
        linear(&self.x, &self.weights, &self.y, &mut self.scratch)?;
        Ok(&self.y)
    }

    /// Operations of a [`run`](Self::run).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn operations(&self) -> Result<usize> {
        Ok(OPERATIONS * self.x.elem_count() * self.weights.rows())
    }
}

/// Sums dot products of codes that stay in registers, `rounds` times, on this thread: what the processor can do at most.
/// Returns the number of operations.
pub fn dot_limit(rounds: usize) -> usize {
    OPERATIONS * sum_in_registers(Isa::detect(), rounds)
}
