//! Reading a file's blocks: codes in the order of a row, and the scale and offset of each group.
//!
//! The formats are those of <https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>. Scales and offsets of the
//! simple formats are the file's numbers; those of the `K` formats are products of two of them, rounded to f32 as every
//! other program does that reads these files.

use half::f16;

use super::format::QuantFormat;

/// The most weights of a block.
pub(super) const MAX_BLOCK: usize = 256;
/// The most groups of a block.
const MAX_GROUPS: usize = 16;

/// The content of one block. How much of it is used is a matter of the format.
pub(super) struct Unpacked {
    /// One for each weight, in order.
    pub(super) codes: [u8; MAX_BLOCK],
    /// One for each group, in order.
    pub(super) scales: [f32; MAX_GROUPS],
    /// One for each group, in order; zero in formats without offsets.
    pub(super) offsets: [f32; MAX_GROUPS],
}

impl Unpacked {
    pub(super) fn new() -> Self {
        Self { codes: [0; MAX_BLOCK], scales: [0.0; MAX_GROUPS], offsets: [0.0; MAX_GROUPS] }
    }

    /// Reads one block.
    ///
    /// # Panics
    /// If `bytes` is not as long as a block of the format.
    pub(super) fn read(&mut self, format: QuantFormat, bytes: &[u8]) {
        match format {
            QuantFormat::Q4_0 => self.simple(bytes, Simple { offset: false, fifth_bit: false }),
            QuantFormat::Q4_1 => self.simple(bytes, Simple { offset: true, fifth_bit: false }),
            QuantFormat::Q5_0 => self.simple(bytes, Simple { offset: false, fifth_bit: true }),
            QuantFormat::Q5_1 => self.simple(bytes, Simple { offset: true, fifth_bit: true }),
            QuantFormat::Q8_0 => self.q8_0(bytes),
            QuantFormat::Q2_K => self.q2_k(bytes),
            QuantFormat::Q3_K => self.q3_k(bytes),
            QuantFormat::Q4_K => self.q4_k(bytes),
            QuantFormat::Q5_K => self.q5_k(bytes),
            QuantFormat::Q6_K => self.q6_k(bytes),
        }
    }

    /// Scale, offset if any, fifth bits if any, then 16 bytes with the first half of the weights in their low nibbles.
    fn simple(&mut self, bytes: &[u8], has: Simple) {
        self.scales[0] = number(bytes, 0);
        let mut rest = &bytes[2..];
        if has.offset {
            self.offsets[0] = number(rest, 0);
            rest = &rest[2..];
        }
        let mut fifth = 0;
        if has.fifth_bit {
            fifth = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
            rest = &rest[4..];
        }
        for (i, byte) in rest[..16].iter().enumerate() {
            self.codes[i] = (byte & 15) | ((fifth >> i & 1) << 4) as u8;
            self.codes[i + 16] = (byte >> 4) | ((fifth >> (i + 16) & 1) << 4) as u8;
        }
    }

    /// Scale, then signed bytes.
    fn q8_0(&mut self, bytes: &[u8]) {
        self.scales[0] = number(bytes, 0);
        for (code, byte) in self.codes.iter_mut().zip(&bytes[2..34]) {
            *code = byte ^ 0x80;
        }
    }

    /// 16 bytes of scale and minimum, 64 of codes, then the scale of the scales and that of the minima.
    fn q2_k(&mut self, bytes: &[u8]) {
        let (scale, min) = (number(bytes, 80), number(bytes, 82));
        for (group, byte) in bytes[..16].iter().enumerate() {
            self.scales[group] = scale * f32::from(byte & 15);
            self.offsets[group] = -(min * f32::from(byte >> 4));
        }
        self.pairs(&bytes[16..80]);
    }

    /// 32 bytes of third bits, 64 of the other two, 12 of scales, then the scale of the scales.
    fn q3_k(&mut self, bytes: &[u8]) {
        let (high, packed, scale) = (&bytes[..32], &bytes[96..108], number(bytes, 108));
        for group in 0..16 {
            let low = if group < 8 { packed[group] & 15 } else { packed[group - 8] >> 4 };
            let six_bits = low | (packed[8 + group % 4] >> (2 * (group / 4)) & 3) << 4;
            self.scales[group] = scale * (f32::from(six_bits) - 32.0);
        }
        self.pairs(&bytes[32..96]);
        for (i, code) in self.codes.iter_mut().enumerate() {
            *code |= (high[i % 32] >> (i / 32) & 1) << 2;
        }
    }

    /// Scales of both kinds, 12 bytes of what they scale, then 128 bytes of codes.
    fn q4_k(&mut self, bytes: &[u8]) {
        self.scales_and_mins(bytes);
        self.nibbles(&bytes[16..144]);
    }

    /// As `Q4_K`, with 32 bytes of fifth bits before the others.
    fn q5_k(&mut self, bytes: &[u8]) {
        self.scales_and_mins(bytes);
        self.nibbles(&bytes[48..176]);
        for (i, code) in self.codes.iter_mut().enumerate() {
            *code |= (bytes[16 + i % 32] >> (i / 32) & 1) << 4;
        }
    }

    /// 128 bytes of low nibbles, 64 of the upper two bits, 16 of signed scales, then the scale of the scales.
    fn q6_k(&mut self, bytes: &[u8]) {
        let (low, high, scale) = (&bytes[..128], &bytes[128..192], number(bytes, 208));
        for (group, byte) in bytes[192..208].iter().enumerate() {
            self.scales[group] = scale * f32::from(byte.cast_signed());
        }
        for (i, code) in self.codes.iter_mut().enumerate() {
            let (half, quarter, place) = (i / 128, i % 128 / 32, i % 32);
            let nibbles = low[half * 64 + quarter % 2 * 32 + place];
            let bits = high[half * 32 + place] >> (2 * quarter) & 3;
            *code = (nibbles >> (quarter / 2 * 4) & 15) | bits << 4;
        }
    }

    /// Codes of 2 bits: each 32 bytes hold 128 weights, 32 in each pair of bits, the lowest first.
    fn pairs(&mut self, bytes: &[u8]) {
        for (i, code) in self.codes.iter_mut().enumerate() {
            let (half, quarter, place) = (i / 128, i % 128 / 32, i % 32);
            *code = bytes[half * 32 + place] >> (2 * quarter) & 3;
        }
    }

    /// Codes of 4 bits: each 32 bytes hold 64 weights, the first 32 in their low nibbles.
    fn nibbles(&mut self, bytes: &[u8]) {
        for (i, code) in self.codes.iter_mut().enumerate() {
            *code = bytes[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
        }
    }

    /// Eight scales and eight minima of six bits in twelve bytes, after the numbers that scale them.
    fn scales_and_mins(&mut self, bytes: &[u8]) {
        let (scale, min, packed) = (number(bytes, 0), number(bytes, 2), &bytes[4..16]);
        for group in 0..8 {
            let (six_scale, six_min) = if group < 4 {
                (packed[group] & 63, packed[group + 4] & 63)
            } else {
                let (both, first, second) = (packed[group + 4], packed[group - 4], packed[group]);
                ((both & 15) | (first >> 6 << 4), (both >> 4) | (second >> 6 << 4))
            };
            self.scales[group] = scale * f32::from(six_scale);
            self.offsets[group] = -(min * f32::from(six_min));
        }
    }
}

/// What a simple format has besides a scale and four bits a weight.
#[derive(Clone, Copy)]
struct Simple {
    offset: bool,
    fifth_bit: bool,
}

/// The f16 number at a place.
fn number(bytes: &[u8], place: usize) -> f32 {
    f16::from_le_bytes([bytes[place], bytes[place + 1]]).to_f32()
}
