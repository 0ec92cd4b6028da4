//! Making blocks of plain numbers, by the formulas of llama.cpp's reference quantiser
//! (<https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-quants.c>).

use half::f16;
use rayon::prelude::*;

use super::activations::BLOCK;
use super::format::QuantFormat;

/// The blocks of `weights` as `Q8_0`, in their order; weights that are no whole block are left out.
pub(in crate::kernels) fn quantize_q8_0(weights: &[f32]) -> Vec<u8> {
    blocks(QuantFormat::Q8_0, weights, |x, codes| {
        let greatest = x.iter().fold(0f32, |greatest, x| greatest.max(x.abs()));
        let scale = greatest / 127.0;
        let inverse = inverse(scale);
        for (code, x) in codes.iter_mut().zip(x) {
            *code = ((x * inverse).round() as i8).cast_unsigned();
        }
        scale
    })
}

/// The blocks of `weights` as `Q4_0`, in their order; weights that are no whole block are left out.
pub(in crate::kernels) fn quantize_q4_0(weights: &[f32]) -> Vec<u8> {
    blocks(QuantFormat::Q4_0, weights, |x, codes| {
        // With its sign: it becomes the code 0, which stands for −8.
        let greatest = x.iter().fold(0f32, |greatest, x| if x.abs() > greatest.abs() { *x } else { greatest });
        let scale = greatest / -8.0;
        let inverse = inverse(scale);
        let code = |x: f32| ((x * inverse + 8.5) as u8).min(15);
        for (i, byte) in codes.iter_mut().enumerate() {
            *byte = code(x[i]) | code(x[i + BLOCK / 2]) << 4;
        }
        scale
    })
}

/// Blocks of a scale and the codes that `quantize` writes; it returns the scale. A block with a number that is not
/// finite gets a scale that is none, so that it shows in every product.
fn blocks(format: QuantFormat, weights: &[f32], quantize: impl Fn(&[f32], &mut [u8]) -> f32 + Sync) -> Vec<u8> {
    let block_bytes = format.layout().block_bytes;
    let mut bytes = vec![0; weights.len() / BLOCK * block_bytes];
    bytes.par_chunks_exact_mut(block_bytes).zip(weights.par_chunks_exact(BLOCK)).for_each(|(bytes, x)| {
        let (scale, codes) = bytes.split_at_mut(2);
        let number = quantize(x, codes);
        let number = if x.iter().all(|x| x.is_finite()) { number } else { f32::NAN };
        scale.copy_from_slice(&f16::from_f32(number).to_le_bytes());
    });
    bytes
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};

    #[test]
    fn blocks_are_those_of_the_reference_quantiser() {
        let weights: Vec<f32> = (0..64 * BLOCK).map(|i| ((i * 7919 + i / 32) % 2003) as f32 / 701.0 - 1.3).collect();
        let zeros = [0.0; BLOCK];
        let weights = [&zeros, weights.as_slice()].concat();
        for (dtype, ours) in [(GgmlDType::Q8_0, quantize_q8_0(&weights)), (GgmlDType::Q4_0, quantize_q4_0(&weights))] {
            let tensor = Tensor::from_slice(&weights, (65, BLOCK), &Device::Cpu).unwrap();
            assert_eq!(ours, &*QTensor::quantize(&tensor, dtype).unwrap().data().unwrap(), "{dtype:?}");
        }
    }

    #[test]
    fn what_is_not_finite_shows_in_the_scale() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut weights = [1.0; BLOCK];
            weights[30] = bad;
            for bytes in [quantize_q8_0(&weights), quantize_q4_0(&weights)] {
                assert!(f16::from_le_bytes([bytes[0], bytes[1]]).is_nan());
            }
        }
    }
}
