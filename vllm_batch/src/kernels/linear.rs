//! Dense layers: rows of activations times a packed weight matrix.

use std::cell::RefCell;
use std::ops::Range;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};

use super::isa::{Isa, per_isa};
use super::packed::{GROUP_WIDTH, PANELS_PER_GROUP, PackedMatrix, Part, Weights};
use super::parallel::{Shared, Strided, for_each};
use super::quant::{self, Activations, CHUNK_ROWS, QuantMatrix, QuantRows};
use super::registers::Registers;
use super::storage::{f32_slice, f32_slice_mut, lanes, lanes_mut};
use super::tile::{Rows, multiply};
use super::{LANES, Lane};

/// Rows of activations that are multiplied at once.
const MAX_ROWS: usize = 64;

/// What a product needs memory for beside its result. It grows as needed and serves the next product.
#[derive(Debug, Default)]
pub(crate) struct LinearScratch {
    quantized: Activations,
}

/// What matrices are multiplied with: rows of numbers, `[tokens, depth]`, and the same rows quantised if what wrote them
/// has done so. Without that, each product with a quantised matrix does it for itself; the result is the same.
#[derive(Debug, Clone)]
pub(crate) struct Operand<'a> {
    numbers: Tensor,
    quantized: Option<&'a Activations>,
}

impl<'a> Operand<'a> {
    /// Rows that `write` writes, which also quantises them if it gets room for that.
    ///
    /// # Errors
    /// Those of `write`.
    pub(super) fn written(
        numbers: Tensor,
        quantized: Option<&'a mut Activations>,
        write: impl FnOnce(&Tensor, Option<QuantRows<'_>>) -> Result<()>,
    ) -> Result<Self> {
        let (shape, isa) = (numbers.dims2()?, Isa::detect());
        let Some(activations) = quantized else {
            return write(&numbers, None).map(|()| Self { numbers, quantized: None });
        };
        write(&numbers, Some(activations.rows(shape, isa)))?;
        Ok(Self { numbers, quantized: Some(activations) })
    }

    /// The rows as they are.
    pub(crate) fn numbers(&self) -> &Tensor {
        &self.numbers
    }
}

impl<'a> From<&Operand<'a>> for Operand<'a> {
    fn from(operand: &Operand<'a>) -> Self {
        operand.clone()
    }
}

impl From<&Tensor> for Operand<'_> {
    fn from(numbers: &Tensor) -> Self {
        Self { numbers: numbers.clone(), quantized: None }
    }
}

/// `y = x · weightsᵀ + bias`: `x` is `[tokens, depth]`, `y` `[tokens, rows]`.
pub(crate) fn linear<'a>(
    x: impl Into<Operand<'a>>,
    weights: &PackedMatrix,
    y: &Tensor,
    scratch: &mut LinearScratch,
) -> Result<()> {
    multiply_to(y, &x.into(), weights, (scratch, false))
}

/// `y = y + x · weightsᵀ + bias`, as [`linear`].
pub(crate) fn linear_add<'a>(
    x: impl Into<Operand<'a>>,
    weights: &PackedMatrix,
    y: &Tensor,
    scratch: &mut LinearScratch,
) -> Result<()> {
    multiply_to(y, &x.into(), weights, (scratch, true))
}

fn multiply_to(
    y: &Tensor,
    x: &Operand<'_>,
    weights: &PackedMatrix,
    (scratch, adds): (&mut LinearScratch, bool),
) -> Result<()> {
    let (quantized, scratch) = (x.quantized, RefCell::new(scratch));
    y.inplace_op2(&x.numbers, &Linear { weights, quantized, scratch, adds, isa: Isa::detect() })
}

struct Linear<'a> {
    weights: &'a PackedMatrix,
    /// The rows that are multiplied, if they are quantised already.
    quantized: Option<&'a Activations>,
    /// Candle gives an operation to a shared reference of itself.
    scratch: RefCell<&'a mut LinearScratch>,
    /// Whether what is there before counts.
    adds: bool,
    isa: Isa,
}

impl InplaceOp2 for Linear<'_> {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, y: &mut CpuStorage, yl: &Layout, x: &CpuStorage, xl: &Layout) -> Result<()> {
        let (tokens, depth) = xl.shape().dims2()?;
        let rows = self.weights.rows();
        if depth != self.weights.depth() || yl.shape().dims2()? != (tokens, rows) {
            let expected = self.weights.depth();
            bail!("linear: {tokens} rows of {depth} numbers times {rows} x {expected} do not become {:?}", yl.shape());
        }
        let x = f32_slice(x, xl)?;
        let y = Shared::new(f32_slice_mut(y, yl)?);
        let bias = self.weights.bias.as_deref();
        let mut target = Target { y, tokens, width: rows, columns: 0..0, adds: self.adds, bias };
        let mut scratch = self.scratch.borrow_mut();
        if self.quantized.is_none() && self.weights.is_quantized() {
            scratch.quantized.quantize(x, depth, self.isa);
        }
        let quantized = self.quantized.unwrap_or(&scratch.quantized);
        for part in &self.weights.parts {
            target.columns = target.columns.end..target.columns.end + part.rows();
            match part {
                Part::Dense(dense) => dense.with(|weights| multiply_dense(self.isa, (x, depth), weights, &target))?,
                Part::Quantized(weights) => multiply_quantized(self.isa, quantized, weights, &target),
            }
        }
        Ok(())
    }
}

/// A task is one group of columns for one block of tokens: small enough to share the work out evenly.
fn multiply_dense(isa: Isa, (x, depth): (&[f32], usize), w: &Weights<'_>, target: &Target<'_>) {
    let block = if w.is_narrow() { target.tokens } else { target.block() };
    target.for_each_task(block, GROUP_WIDTH * depth, |group, tokens| {
        let mut scratch = Vec::new();
        let start = group * GROUP_WIDTH * depth;
        let weights = w.widened(start, GROUP_WIDTH * depth, &mut scratch);
        for first in tokens.clone().step_by(MAX_ROWS) {
            let some = first..tokens.end.min(first + MAX_ROWS);
            let numbers = &x[some.start * depth..some.end * depth];
            let rows = Rows { numbers, stride: depth, count: some.len() };
            target.add(group, some, |sums| multiply_group(isa, rows, weights, sums));
        }
    });
}

/// As [`multiply_dense`].
fn multiply_quantized(isa: Isa, x: &Activations, weights: &QuantMatrix, target: &Target<'_>) {
    // Weights are an eighth of their size as f32, and their products take less time.
    let numbers_per_task = GROUP_WIDTH * weights.depth() / 4;
    target.for_each_task(CHUNK_ROWS, numbers_per_task, |group, tokens| {
        let chunk = x.chunk(tokens.start / CHUNK_ROWS);
        target.add_in_place(group, tokens, |out| quant::multiply_group(isa, chunk, (weights, group), out));
    });
}

/// Where the products of a part go.
struct Target<'a> {
    y: Shared<'a>,
    /// Rows of the result.
    tokens: usize,
    /// Length of a row of the result.
    width: usize,
    /// The part's columns in a row.
    columns: Range<usize>,
    /// Whether what is there before counts.
    adds: bool,
    /// One number for each column of a row.
    bias: Option<&'a [f32]>,
}

impl Target<'_> {
    /// Tokens of a task: all, in at least two blocks, of at most [`MAX_ROWS`].
    fn block(&self) -> usize {
        self.tokens.div_ceil(2).next_multiple_of(LANES).min(MAX_ROWS)
    }

    /// Runs `task` for each group of columns of the part, counted from its first, and each block of tokens.
    fn for_each_task(&self, block: usize, numbers_per_task: usize, task: impl Fn(usize, Range<usize>) + Sync + Send) {
        let blocks = self.tokens.div_ceil(block.max(1));
        for_each(self.columns.len().div_ceil(GROUP_WIDTH) * blocks, numbers_per_task, |index| {
            // Blocks of one group follow each other: its weights are still near when they are read again.
            let (group, first) = (index / blocks, index % blocks * block);
            task(group, first..(first + block).min(self.tokens));
        });
    }

    /// Makes of what is there, from a column of the part on, what the sums begin with.
    fn begin(&self, column: usize, y: &mut [f32]) {
        if !self.adds {
            y.fill(0.0);
        }
        if let Some(bias) = self.bias {
            y.iter_mut().zip(&bias[self.columns.start + column..]).for_each(|(y, bias)| *y += bias);
        }
    }

    /// Adds to the results of one group of columns, for at most [`MAX_ROWS`] tokens: `multiply` is given what the sums
    /// begin with, four panels for each token. To be called once for each place.
    fn add(&self, group: usize, tokens: Range<usize>, multiply: impl FnOnce(&mut [Lane])) {
        let column = group * GROUP_WIDTH;
        let columns = GROUP_WIDTH.min(self.columns.len() - column);
        let start = |token: usize| token * self.width + self.columns.start + column;
        // SAFETY: each task touches the columns of its own group, for its own tokens, one at a time.
        let part = |token: usize| unsafe { self.y.part(start(token), columns) };
        let mut sums = [[0f32; GROUP_WIDTH]; MAX_ROWS];
        let sums = &mut sums[..tokens.len()];
        for (token, sum) in tokens.clone().zip(&mut *sums) {
            sum[..columns].copy_from_slice(part(token));
            self.begin(column, &mut sum[..columns]);
        }
        multiply(lanes_mut(sums.as_flattened_mut()));
        tokens.zip(sums).for_each(|(token, sum)| part(token).copy_from_slice(&sum[..columns]));
    }

    /// As [`add`](Self::add), where the results lie if they are whole panels.
    fn add_in_place(&self, group: usize, tokens: Range<usize>, multiply: impl FnOnce(Strided<'_>)) {
        if self.columns.len() < (group + 1) * GROUP_WIDTH {
            return self.add(group, tokens, |sums| multiply(Strided::new(sums.as_flattened_mut(), GROUP_WIDTH)));
        }
        let start = |token: usize| token * self.width + self.columns.start + group * GROUP_WIDTH;
        for token in tokens.clone() {
            // SAFETY: each task touches the columns of its own group, for its own tokens, one after the other.
            self.begin(group * GROUP_WIDTH, unsafe { self.y.part(start(token), GROUP_WIDTH) });
        }
        let start = start(tokens.start);
        // SAFETY: as above.
        multiply(unsafe { self.y.rows(start, self.width, (tokens.len(), GROUP_WIDTH)) });
    }
}

per_isa! {
    fn multiply_group(rows: Rows<'_>, weights: &[f32], sums: &mut [Lane]) = multiply_panels
}

/// `rows` times the panels of one group, added to `sums`.
#[inline(always)]
fn multiply_panels<V: Registers>(rows: Rows<'_>, weights: &[f32], sums: &mut [Lane]) {
    let weights = lanes(weights);
    let depth = weights.len() / PANELS_PER_GROUP;
    let panels: [&[Lane]; PANELS_PER_GROUP] = std::array::from_fn(|p| &weights[p * depth..(p + 1) * depth]);
    multiply::<V>(rows, &panels, sums);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Activation, Team, WeightDtype, gated, rms_norm};
    use candle_core::Device;

    fn matrix(rows: usize, columns: usize, seed: usize) -> Vec<f32> {
        (0..rows * columns).map(|i| ((i * 7 + seed * 13) % 29) as f32 / 8.0 - 1.5).collect()
    }

    fn product(x: &[f32], w: &[f32], bias: &[f32], depth: usize) -> Vec<f32> {
        let dot = |a: &[f32], b: &[f32], start: f32| a.iter().zip(b).fold(start, |sum, (a, b)| a.mul_add(*b, sum));
        x.chunks(depth).flat_map(|x| w.chunks(depth).zip(bias).map(move |(w, bias)| dot(x, w, *bias))).collect()
    }

    /// The product in memory of its own, which holds something else before.
    fn new_product(x: &Tensor, weights: &PackedMatrix) -> Result<Tensor> {
        let y = Tensor::full(f32::NAN, (x.dims2()?.0, weights.rows()), &Device::Cpu)?;
        linear(x, weights, &y, &mut LinearScratch::default()).map(|()| y)
    }

    /// The sum in memory of its own.
    fn new_sum(x: &Tensor, weights: &PackedMatrix, addend: &Tensor) -> Result<Tensor> {
        let y = addend.copy()?;
        linear_add(x, weights, &y, &mut LinearScratch::default()).map(|()| y)
    }

    #[test]
    fn products_equal_the_plain_loop_for_odd_shapes_and_all_dtypes() {
        // The values have few bits, so that every dtype holds them exactly.
        for (tokens, rows, depth) in [(1, 1, 1), (1, 64, 16), (2, 65, 3), (17, 100, 40), (130, 130, 5), (33, 16, 576)] {
            let (x, w, bias) = (matrix(tokens, depth, 1), matrix(rows, depth, 2), matrix(1, rows, 3));
            let expected = product(&x, &w, &bias, depth);
            for dtype in [WeightDtype::F32, WeightDtype::F16, WeightDtype::Bf16] {
                let packed = PackedMatrix::pack(&w, (rows, depth), dtype).and_then(|w| w.with_bias(bias.clone()));
                let x = Tensor::from_slice(&x, (tokens, depth), &Device::Cpu).unwrap();
                let y = new_product(&x, &packed.unwrap()).unwrap();
                assert_eq!(y.dims(), [tokens, rows]);
                let y: Vec<f32> = y.flatten_all().unwrap().to_vec1().unwrap();
                assert_eq!(y, expected, "{tokens}x{rows}x{depth} {dtype:?}");
            }
        }
    }

    #[test]
    fn an_addend_is_where_the_sums_start() {
        let (tokens, rows, depth) = (7, 70, 12);
        let (x, w, addend) = (matrix(tokens, depth, 1), matrix(rows, depth, 2), matrix(tokens, rows, 3));
        let expected: Vec<f32> = (0..tokens)
            .flat_map(|t| product(&x[t * depth..(t + 1) * depth], &w, &addend[t * rows..(t + 1) * rows], depth))
            .collect();
        let packed = PackedMatrix::pack(&w, (rows, depth), WeightDtype::F32).unwrap();
        let tensor = |numbers: &[f32], width| Tensor::from_slice(numbers, (tokens, width), &Device::Cpu).unwrap();
        let y = new_sum(&tensor(&x, depth), &packed, &tensor(&addend, rows)).unwrap();
        assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
        assert!(new_sum(&tensor(&x, depth), &packed, &tensor(&x, depth)).is_err());
    }

    #[test]
    fn wrong_shapes_are_errors() {
        assert!(PackedMatrix::pack(&[0.0; 6], (2, 4), WeightDtype::F32).is_err());
        let packed = PackedMatrix::pack(&[0.0; 8], (2, 4), WeightDtype::F32).unwrap();
        assert!(packed.clone().with_bias(vec![0.0; 3]).is_err());
        let x = Tensor::from_slice(&[0f32; 6], (2, 3), &Device::Cpu).unwrap();
        assert!(new_product(&x, &packed).is_err());
    }

    /// Three parts, in two formats and dense, with odd numbers of rows.
    fn parts(depth: usize) -> Vec<PackedMatrix> {
        let pack = |rows, dtype| PackedMatrix::pack(&matrix(rows, depth, rows), (rows, depth), dtype).unwrap();
        vec![pack(70, WeightDtype::Q8_0), pack(33, WeightDtype::Q4_0), pack(9, WeightDtype::F32)]
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn parts_are_multiplied_side_by_side_each_in_its_own_format() {
        let (tokens, depth) = (53, 64);
        let x = Tensor::from_vec(matrix(tokens, depth, 1), (tokens, depth), &Device::Cpu).unwrap();
        let products: Vec<Tensor> = parts(depth).iter().map(|part| new_product(&x, part).unwrap()).collect();
        let bias = matrix(1, 112, 3);
        let addend = Tensor::from_vec(matrix(tokens, 112, 4), (tokens, 112), &Device::Cpu).unwrap();
        let stacked = PackedMatrix::stack(parts(depth)).unwrap();
        assert_eq!(numbers(&new_product(&x, &stacked).unwrap()), numbers(&Tensor::cat(&products, 1).unwrap()));
        // The bias and the addend are where the sums start, so they are rounded with them.
        let both = numbers(&new_sum(&x, &stacked.with_bias(bias.clone()).unwrap(), &addend).unwrap());
        let plain = numbers(&Tensor::cat(&products, 1).unwrap());
        for (i, (y, product)) in both.iter().zip(&plain).enumerate() {
            let expected = product + bias[i % 112] + numbers(&addend)[i];
            assert!((y - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{i}: {y} for {expected}");
        }
    }

    #[test]
    fn rows_that_were_quantised_as_they_were_written_are_those_of_the_product() {
        let (tokens, width) = (53, 96);
        let tensor =
            |width, seed| Tensor::from_vec(matrix(tokens, width, seed), (tokens, width), &Device::Cpu).unwrap();
        let (x, gate_up, weight) = (tensor(width, 1), tensor(2 * width, 2), tensor(width, 3).get(0).unwrap());
        let room = || Tensor::full(f32::NAN, (tokens, width), &Device::Cpu).unwrap();
        let mut written = [Activations::default(), Activations::default()];
        let [normed, gate] = &mut written;
        let operands = [
            rms_norm(&x, (&weight, 1e-5), room(), Some(normed)).unwrap(),
            gated(&gate_up, Activation::Silu, room(), Some(gate)).unwrap(),
        ];
        let alone = [
            rms_norm(&x, (&weight, 1e-5), room(), None).unwrap(),
            gated(&gate_up, Activation::Silu, room(), None).unwrap(),
        ];
        let weights = PackedMatrix::stack(parts(width)).unwrap();
        for (operand, alone) in operands.iter().zip(&alone) {
            assert_eq!(numbers(operand.numbers()), numbers(alone.numbers()));
            let mut expected = Activations::default();
            expected.quantize(&numbers(alone.numbers()), width, Isa::detect());
            assert_eq!((operand.quantized, alone.quantized), (Some(&expected), None));
            let product = |operand: &Operand<'_>| {
                let y = Tensor::zeros((tokens, weights.rows()), candle_core::DType::F32, &Device::Cpu).unwrap();
                linear(operand, &weights, &y, &mut LinearScratch::default()).unwrap();
                numbers(&y)
            };
            assert_eq!(product(operand), product(alone));
        }
    }

    #[test]
    fn quantised_products_are_close_to_the_dense_ones_and_do_not_depend_on_threads_or_rows() {
        let (tokens, rows, depth) = (61, 200, 96);
        let (x, w) = (matrix(tokens, depth, 1), matrix(rows, depth, 2));
        let tensor = |x: &[f32]| Tensor::from_slice(x, (x.len() / depth, depth), &Device::Cpu).unwrap();
        let exact = product(&x, &w, &vec![0.0; rows], depth);
        for (dtype, bound) in [(WeightDtype::Q8_0, 0.01), (WeightDtype::Q4_0, 0.1)] {
            let packed = PackedMatrix::pack(&w, (rows, depth), dtype).unwrap();
            let all = numbers(&new_product(&tensor(&x), &packed).unwrap());
            let error: f32 = all.iter().zip(&exact).map(|(y, exact)| (y - exact).powi(2)).sum();
            let norm: f32 = exact.iter().map(|exact| exact.powi(2)).sum();
            assert!(error.sqrt() <= bound * norm.sqrt(), "{dtype:?}: {}", (error / norm).sqrt());
            for threads in [1, 2, 5] {
                let team = Team::new(threads).unwrap();
                for rows_at_once in [1, 7, 24, 61] {
                    let some = x.chunks(rows_at_once * depth).map(|x| new_product(&tensor(x), &packed).unwrap());
                    let some: Vec<f32> = team.install(|| some.flat_map(|y| numbers(&y)).collect());
                    assert_eq!(some, all, "{dtype:?}, {threads} threads, {rows_at_once} rows");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_stacked_or_quantised_is_an_error() {
        let pack = |depth, dtype| PackedMatrix::pack(&vec![0.0; 2 * depth], (2, depth), dtype);
        assert!(pack(33, WeightDtype::Q8_0).is_err());
        let parts = vec![pack(32, WeightDtype::Q8_0).unwrap(), pack(64, WeightDtype::Q8_0).unwrap()];
        assert!(PackedMatrix::stack(parts).is_err());
    }
}
