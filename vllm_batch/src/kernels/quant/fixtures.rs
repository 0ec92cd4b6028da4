//! Blocks for tests.

use super::format::QuantFormat;
use half::f16;

/// Blocks of a matrix with any codes, and scales that are numbers of a usual size.
pub(in crate::kernels) fn random_blocks(format: QuantFormat, rows: usize, depth: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let block_bytes = format.layout().block_bytes;
    let mut bytes: Vec<u8> = (0..rows * format.row_bytes(depth).unwrap()).map(|_| next()).collect();
    for block in bytes.chunks_exact_mut(block_bytes) {
        for place in scale_places(format) {
            let scale = f16::from_f32((f32::from(next()) - 100.0) / 2048.0);
            block[*place..*place + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes
}

/// Where a block has its f16 numbers.
pub(in crate::kernels) fn scale_places(format: QuantFormat) -> &'static [usize] {
    match format {
        QuantFormat::Q4_0 | QuantFormat::Q5_0 | QuantFormat::Q8_0 => &[0],
        QuantFormat::Q4_1 | QuantFormat::Q5_1 | QuantFormat::Q4_K | QuantFormat::Q5_K => &[0, 2],
        QuantFormat::Q2_K => &[80, 82],
        QuantFormat::Q3_K => &[108],
        QuantFormat::Q6_K => &[208],
    }
}
