//! Every instruction set, shape and format against one plain loop, bit by bit.

use super::*;
use crate::kernels::quant::activations::{Activations, CHUNK_ROWS};
use crate::kernels::quant::fixtures::{random_blocks, scale_places};
use crate::kernels::quant::unpack::Unpacked;

fn chunks(x: &Activations) -> impl Iterator<Item = Chunk<'_>> {
    let rows = x.blocks.len() / x.per_row;
    (0..rows.div_ceil(CHUNK_ROWS)).map(|index| x.chunk(index))
}

fn quantized(x: &[f32], depth: usize, isa: Isa) -> Activations {
    let mut activations = Activations::default();
    activations.quantize(x, depth, isa);
    activations
}

/// `out[row][column]` by the definition in the module's documentation.
fn expected(x: &Activations, format: QuantFormat, bytes: &[u8], depth: usize, init: f32) -> Vec<Vec<f32>> {
    let columns: Vec<_> = bytes.chunks_exact(format.row_bytes(depth).unwrap()).collect();
    let product = |(x, row): (Chunk<'_>, usize), column: &[u8]| {
        let (layout, mut sum, mut unpacked) = (format.layout(), init, Unpacked::new());
        for (i, bytes) in column.chunks_exact(layout.block_bytes).enumerate() {
            unpacked.read(format, bytes);
            for (group, codes) in unpacked.codes[..layout.block].chunks_exact(layout.group).enumerate() {
                let first = i * layout.block + group * layout.group;
                let block = &x.blocks[first / BLOCK * x.rows + row];
                let activations = &block.codes[first % BLOCK..][..layout.group];
                let zero = layout.zero.unwrap_or(0);
                let dot: i32 = codes.iter().zip(activations).map(|(q, a)| (i32::from(*q) - zero) * i32::from(*a)).sum();
                sum = (dot as f32).mul_add(block.scale * unpacked.scales[group], sum);
                if layout.zero.is_none() {
                    let total: i32 = activations.iter().map(|a| i32::from(*a)).sum();
                    sum = unpacked.offsets[group].mul_add(block.scale * total as f32, sum);
                }
            }
        }
        sum
    };
    let rows = chunks(x).flat_map(|chunk| (0..chunk.rows).map(move |row| (chunk, row)));
    rows.map(|row| columns.iter().map(|column| product(row, column)).collect()).collect()
}

fn product(isa: Isa, x: &Activations, weights: &QuantMatrix, init: f32) -> Vec<Vec<f32>> {
    chunks(x).flat_map(|chunk| chunk_product(isa, chunk, weights, init)).collect()
}

fn chunk_product(isa: Isa, x: Chunk<'_>, weights: &QuantMatrix, init: f32) -> Vec<Vec<f32>> {
    let mut results = vec![Vec::new(); x.rows];
    for group in 0..weights.rows().div_ceil(GROUP_WIDTH) {
        let mut out = vec![init; x.rows * GROUP_WIDTH];
        multiply_group(isa, x, (weights, group), Strided::new(&mut out, GROUP_WIDTH));
        for (result, columns) in results.iter_mut().zip(out.chunks_exact(GROUP_WIDTH)) {
            result.extend_from_slice(&columns[..GROUP_WIDTH.min(weights.rows() - group * GROUP_WIDTH)]);
        }
    }
    results
}

/// Results as bits, with one kind of NaN.
fn bits(results: &[Vec<f32>]) -> Vec<Vec<u32>> {
    let bit = |x: &f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
    results.iter().map(|row| row.iter().map(bit).collect()).collect()
}

fn check(x: &[f32], format: QuantFormat, bytes: &[u8], (columns, depth): (usize, usize), what: &str) {
    let weights = QuantMatrix::pack(format, bytes, (columns, depth)).unwrap();
    let activations = quantized(x, depth, Isa::Baseline);
    let expected = bits(&expected(&activations, format, bytes, depth, 0.25));
    for isa in Isa::available() {
        let actual = bits(&product(isa, &activations, &weights, 0.25));
        assert!(actual == expected, "{format:?} {what} {isa:?}");
    }
}

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 701.0 - 1.3).collect()
}

#[test]
fn every_instruction_set_gives_the_bits_of_the_plain_loop_for_all_shapes() {
    for format in QuantFormat::ALL {
        let depth = format.layout().block.max(96);
        for (rows, columns) in [(1, 1), (2, 70), (3, 64), (5, 17), (8, 130), (17, 33), (64, 65), (130, 48)] {
            let bytes = random_blocks(format, columns, depth, rows as u64);
            let what = format!("{rows} x {columns}");
            check(&numbers(rows * depth, rows), format, &bytes, (columns, depth), &what);
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_number_of_rows() {
    let (format, columns, depth) = (QuantFormat::Q4_1, 64, 64);
    let weights = QuantMatrix::pack(format, &random_blocks(format, columns, depth, 1), (columns, depth)).unwrap();
    let x = numbers(130 * depth, 3);
    for isa in Isa::available() {
        let all = product(isa, &quantized(&x, depth, isa), &weights, 0.0);
        for rows in 1..130 {
            let some = quantized(&x[..rows * depth], depth, isa);
            assert!(product(isa, &some, &weights, 0.0) == all[..rows], "{rows} rows, {isa:?}");
        }
    }
}

#[test]
fn the_greatest_sums_do_not_overflow() {
    for format in QuantFormat::ALL {
        let (columns, depth) = (16, 512);
        for fill in [0x00, 0xff, 0x80, 0x7f] {
            let mut bytes = vec![fill; columns * format.row_bytes(depth).unwrap()];
            for block in bytes.chunks_exact_mut(format.layout().block_bytes) {
                for place in scale_places(format) {
                    block[*place..*place + 2].copy_from_slice(&f16::from_f32(-0.5).to_le_bytes());
                }
            }
            for x in [1.0, -1.0] {
                check(&vec![x; 7 * depth], format, &bytes, (columns, depth), &format!("{fill:x} {x}"));
            }
            let signs: Vec<f32> = (0..7 * depth).map(|i| if i % 2 == 0 { 3.0 } else { -3.0 }).collect();
            check(&signs, format, &bytes, (columns, depth), &format!("{fill:x} both signs"));
        }
    }
}

#[test]
fn what_is_not_finite_reaches_every_column_of_its_row_and_no_other() {
    for format in QuantFormat::ALL {
        let (columns, depth) = (70, 256);
        let bytes = random_blocks(format, columns, depth, 5);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = numbers(9 * depth, 1);
            x[4 * depth + 77] = bad;
            check(&x, format, &bytes, (columns, depth), "not finite");
            let weights = QuantMatrix::pack(format, &bytes, (columns, depth)).unwrap();
            for isa in Isa::available() {
                let results = product(isa, &quantized(&x, depth, isa), &weights, 0.0);
                for (row, result) in results.iter().enumerate() {
                    assert!(result.iter().all(|y| y.is_nan() == (row == 4)), "{format:?} {isa:?} row {row}");
                }
            }
        }
    }
}

#[test]
fn scales_that_are_not_numbers_show_in_their_own_column() {
    let (format, columns, depth) = (QuantFormat::Q4_0, 20, 64);
    for bad in [f16::NAN, f16::INFINITY] {
        let mut bytes = random_blocks(format, columns, depth, 5);
        let row_bytes = format.row_bytes(depth).unwrap();
        bytes[3 * row_bytes..3 * row_bytes + 2].copy_from_slice(&bad.to_le_bytes());
        check(&numbers(2 * depth, 1), format, &bytes, (columns, depth), "scale");
        let weights = QuantMatrix::pack(format, &bytes, (columns, depth)).unwrap();
        let x = quantized(&numbers(2 * depth, 1), depth, Isa::Baseline);
        for (column, y) in product(Isa::detect(), &x, &weights, 0.0)[1].iter().enumerate() {
            assert_eq!(y.is_finite(), column != 3, "{column}");
        }
    }
}
