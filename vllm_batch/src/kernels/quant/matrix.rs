//! Quantised weights in the order in which they are read.

use candle_core::{Result, bail};
use half::f16;
use rayon::prelude::*;

use super::activations::BLOCK;
use super::format::{Layout, QuantFormat};
use super::unpack::Unpacked;
use crate::kernels::LANES;
use crate::kernels::packed::{GROUP_WIDTH, PANELS_PER_GROUP};
use crate::kernels::registers::Stored;

/// The bytes that memory moves at once, at a place that is a multiple of their number.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct CacheLine(pub(super) [u8; 64]);

/// A quantised matrix of `rows` × `depth`, stored so that the 64 rows that a task multiplies are one run of memory, the
/// last ones padded with zeros.
///
/// Sixteen rows are a panel, one row to a lane. Of 32 neighbouring weights in each row of a panel, four neighbours (a
/// quad) are in one line of memory, lane after lane: line `j` holds quad `j`, or, with codes of 4 bits, quad `j` in the
/// low and quad `j + 4` in the high nibbles. The order is: groups of four panels, blocks of 32 along the depth, the four
/// panels, lines. Scales, and the offsets that follow them, are in the same order, sixteen at a time.
#[derive(Debug, Clone)]
pub(in crate::kernels) struct QuantMatrix {
    pub(super) format: QuantFormat,
    pub(super) codes: Vec<CacheLine>,
    pub(super) scales: Scales,
    rows: usize,
    depth: usize,
}

/// The numbers beside the codes, as precise as the file has them.
#[derive(Debug, Clone)]
pub(super) enum Scales {
    F16(Vec<[f16; LANES]>),
    F32(Vec<[f32; LANES]>),
}

/// A number beside the codes.
pub(super) trait Scale: Stored + Default + Send + Sync {
    /// Exact for the numbers that files have.
    fn from_f32(x: f32) -> Self;

    fn to_f32(self) -> f32;

    /// All numbers of a matrix; nothing if they are of the other kind.
    fn all(scales: &Scales) -> &[[Self; LANES]];
}

impl Scale for f16 {
    fn from_f32(x: f32) -> Self {
        f16::from_f32(x)
    }

    fn to_f32(self) -> f32 {
        self.to_f32()
    }

    fn all(scales: &Scales) -> &[[Self; LANES]] {
        if let Scales::F16(scales) = scales { scales } else { &[] }
    }
}

impl Scale for f32 {
    fn from_f32(x: f32) -> Self {
        x
    }

    fn to_f32(self) -> f32 {
        self
    }

    fn all(scales: &Scales) -> &[[Self; LANES]] {
        if let Scales::F32(scales) = scales { scales } else { &[] }
    }
}

impl QuantMatrix {
    /// Packs the blocks of a file, row after row, of a matrix of shape `[rows, depth]`. Nothing is lost.
    ///
    /// # Errors
    /// If a row is not a whole number of blocks, or the number of bytes is not that of the rows.
    pub(in crate::kernels) fn pack(format: QuantFormat, bytes: &[u8], shape: (usize, usize)) -> Result<Self> {
        let (rows, depth) = shape;
        let Some(row_bytes) = format.row_bytes(depth) else {
            bail!("rows of {depth} weights are not whole blocks of {} ({format:?})", format.layout().block);
        };
        if bytes.len() != rows * row_bytes {
            bail!("{} bytes cannot be {rows} rows of {depth} weights ({format:?})", bytes.len());
        }
        let (codes, scales) = if format.layout().block == BLOCK {
            let (codes, scales) = pack_rows(format, bytes, row_bytes, depth);
            (codes, Scales::F16(scales))
        } else {
            let (codes, scales) = pack_rows(format, bytes, row_bytes, depth);
            (codes, Scales::F32(scales))
        };
        Ok(Self { format, codes, scales, rows, depth })
    }

    /// Number of rows.
    pub(in crate::kernels) fn rows(&self) -> usize {
        self.rows
    }

    /// Length of a row.
    pub(in crate::kernels) fn depth(&self) -> usize {
        self.depth
    }

    /// The weights of a row as f32, rounded as every program does that widens this format.
    ///
    /// # Panics
    /// If there is no such row, or `weights` is not as long as one.
    pub(in crate::kernels) fn read_row(&self, row: usize, weights: &mut [f32]) {
        assert!(row < self.rows && weights.len() == self.depth, "row {row} of {} x {}", self.rows, self.depth);
        match &self.scales {
            Scales::F16(scales) => self.read_scaled(scales, row, weights),
            Scales::F32(scales) => self.read_scaled(scales, row, weights),
        }
    }

    fn read_scaled<S: Scale>(&self, scales: &[[S; LANES]], row: usize, weights: &mut [f32]) {
        let place = Place::new(self.format.layout(), self.depth / BLOCK, row);
        let layout = place.layout;
        for (block, weights) in weights.chunks_exact_mut(BLOCK).enumerate() {
            for (group, weights) in weights.chunks_exact_mut(layout.group).enumerate() {
                let scale = place.scale(block, group);
                let d = scales[scale][place.lane].to_f32();
                let first = group * layout.group;
                let code = |i: usize| self.code(&place, block, first + i);
                if let Some(zero) = layout.zero {
                    (0..).zip(weights).for_each(|(i, w)| *w = d * (i32::from(code(i)) - zero) as f32);
                } else {
                    let offset = scales[scale + 1][place.lane].to_f32();
                    (0..).zip(weights).for_each(|(i, w)| *w = d * f32::from(code(i)) + offset);
                }
            }
        }
    }

    fn code(&self, place: &Place, block: usize, i: usize) -> u8 {
        let (line, high) = place.line(block, i / 4);
        let byte = self.codes[line].0[place.lane * 4 + i % 4];
        match (place.layout.is_nibbles(), high) {
            (false, _) => byte,
            (true, false) => byte & 15,
            (true, true) => byte >> 4,
        }
    }
}

/// Where the numbers of a row lie.
struct Place {
    layout: Layout,
    /// Blocks before the row's own: of its group of panels, and of its panel in each block.
    first: usize,
    lane: usize,
}

impl Place {
    fn new(layout: Layout, blocks: usize, row: usize) -> Self {
        let (group, panel) = (row / GROUP_WIDTH, row % GROUP_WIDTH / LANES);
        Self { layout, first: group * blocks * PANELS_PER_GROUP + panel, lane: row % LANES }
    }

    /// The line of a quad, and whether it is in the high nibbles.
    fn line(&self, block: usize, quad: usize) -> (usize, bool) {
        let lines = self.layout.lines();
        ((self.first + block * PANELS_PER_GROUP) * lines + quad % lines, quad >= lines)
    }

    /// The place of a group's scale; the offset follows it.
    fn scale(&self, block: usize, group: usize) -> usize {
        ((self.first + block * PANELS_PER_GROUP) * self.layout.groups() + group) * self.layout.scales()
    }
}

/// Codes and scales of all rows, 64 rows at a time in parallel.
fn pack_rows<S: Scale>(
    format: QuantFormat,
    bytes: &[u8],
    row_bytes: usize,
    depth: usize,
) -> (Vec<CacheLine>, Vec<[S; LANES]>) {
    let (layout, blocks) = (format.layout(), depth / BLOCK);
    let groups = bytes.len().checked_div(row_bytes).unwrap_or(0).div_ceil(GROUP_WIDTH);
    let lines = blocks * PANELS_PER_GROUP * layout.lines();
    let numbers = blocks * PANELS_PER_GROUP * layout.groups() * layout.scales();
    let mut codes = vec![CacheLine([0; 64]); groups * lines];
    let mut scales = vec![[S::default(); LANES]; groups * numbers];
    let targets = codes.par_chunks_mut(lines.max(1)).zip(scales.par_chunks_mut(numbers.max(1)));
    targets.zip(bytes.par_chunks((row_bytes * GROUP_WIDTH).max(1))).for_each(|((codes, scales), bytes)| {
        let mut unpacked = Unpacked::new();
        for (row, bytes) in bytes.chunks_exact(row_bytes).enumerate() {
            let place = Place::new(layout, blocks, row);
            for (i, bytes) in bytes.chunks_exact(layout.block_bytes).enumerate() {
                unpacked.read(format, bytes);
                pack_block(&unpacked, &place, i, (codes, scales));
            }
        }
    });
    (codes, scales)
}

/// Block `index` of a row's file blocks, which may be several of [`BLOCK`] weights.
fn pack_block<S: Scale>(
    unpacked: &Unpacked,
    place: &Place,
    index: usize,
    (codes, scales): (&mut [CacheLine], &mut [[S; LANES]]),
) {
    let layout = place.layout;
    let first = index * (layout.block / BLOCK);
    for (block, quads) in unpacked.codes[..layout.block].chunks_exact(BLOCK).enumerate() {
        for (quad, values) in quads.chunks_exact(4).enumerate() {
            let (line, high) = place.line(first + block, quad);
            let bytes = &mut codes[line].0[place.lane * 4..][..4];
            bytes.iter_mut().zip(values).for_each(|(byte, code)| *byte |= code << if high { 4 } else { 0 });
        }
        for group in 0..layout.groups() {
            let (from, to) = (block * layout.groups() + group, place.scale(first + block, group));
            scales[to][place.lane] = S::from_f32(unpacked.scales[from]);
            if layout.zero.is_none() {
                scales[to + 1][place.lane] = S::from_f32(unpacked.offsets[from]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::quant::fixtures::random_blocks;
    use candle_core::Device;
    use candle_core::quantized::{GgmlDType, QStorage, QTensor};
    use std::borrow::Cow;

    fn ggml(format: QuantFormat) -> GgmlDType {
        match format {
            QuantFormat::Q4_0 => GgmlDType::Q4_0,
            QuantFormat::Q4_1 => GgmlDType::Q4_1,
            QuantFormat::Q5_0 => GgmlDType::Q5_0,
            QuantFormat::Q5_1 => GgmlDType::Q5_1,
            QuantFormat::Q8_0 => GgmlDType::Q8_0,
            QuantFormat::Q2_K => GgmlDType::Q2K,
            QuantFormat::Q3_K => GgmlDType::Q3K,
            QuantFormat::Q4_K => GgmlDType::Q4K,
            QuantFormat::Q5_K => GgmlDType::Q5K,
            QuantFormat::Q6_K => GgmlDType::Q6K,
        }
    }

    #[test]
    fn every_row_is_what_candle_makes_of_the_same_bytes() {
        for format in QuantFormat::ALL {
            let (rows, depth) = (83, 512);
            let bytes = random_blocks(format, rows, depth, 7);
            let storage = QStorage::from_data(Cow::Owned(bytes.clone()), &Device::Cpu, ggml(format)).unwrap();
            let tensor = QTensor::new(storage, (rows, depth)).unwrap().dequantize(&Device::Cpu).unwrap();
            let matrix = QuantMatrix::pack(format, &bytes, (rows, depth)).unwrap();
            let mut row = vec![0.0; depth];
            for (i, expected) in tensor.to_vec2::<f32>().unwrap().iter().enumerate() {
                matrix.read_row(i, &mut row);
                assert_eq!(row, *expected, "{format:?} row {i}");
            }
        }
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let bytes = vec![0; 144];
        for (format, shape) in [
            (QuantFormat::Q4_K, (1, 128)),
            (QuantFormat::Q4_K, (2, 256)),
            (QuantFormat::Q4_0, (1, 288)),
            (QuantFormat::Q4_0, (8, 33)),
        ] {
            assert!(QuantMatrix::pack(format, &bytes, shape).is_err(), "{format:?} {shape:?}");
        }
        assert!(QuantMatrix::pack(QuantFormat::Q4_K, &bytes, (1, 256)).is_ok());
    }
}
