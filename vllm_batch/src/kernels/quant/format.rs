//! What each format is, in the one form that kernels compute.

use super::activations::BLOCK;

/// A format of quantised weights, in GGML's names
/// (<https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types)] // The field's names.
pub(crate) enum QuantFormat {
    /// Blocks of 32: a scale and 4 bits a weight.
    Q4_0,
    /// Blocks of 32: a scale, a minimum and 4 bits a weight.
    Q4_1,
    /// Blocks of 32: a scale and 5 bits a weight.
    Q5_0,
    /// Blocks of 32: a scale, a minimum and 5 bits a weight.
    Q5_1,
    /// Blocks of 32: a scale and 8 bits a weight.
    Q8_0,
    /// Blocks of 256, in groups of 16 with a scale and a minimum of 4 bits each; 2 bits a weight.
    Q2_K,
    /// Blocks of 256, in groups of 16 with a scale of 6 bits; 3 bits a weight.
    Q3_K,
    /// Blocks of 256, in groups of 32 with a scale and a minimum of 6 bits each; 4 bits a weight.
    Q4_K,
    /// As `Q4_K`, with 5 bits a weight.
    Q5_K,
    /// Blocks of 256, in groups of 16 with a scale of 8 bits; 6 bits a weight.
    Q6_K,
}

/// What a kernel has to know of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// No code is greater. Codes up to 15 are stored two to a byte.
    pub(super) max_code: u8,
    /// Neighbouring weights with a common scale: 32 or 16.
    pub(super) group: usize,
    /// The code of a weight of zero; without it, a group has an offset beside its scale.
    pub(super) zero: Option<i32>,
    /// Weights of a block in a file.
    pub(super) block: usize,
    /// Bytes of a block in a file.
    pub(super) block_bytes: usize,
}

impl Layout {
    /// Groups in a block of [`BLOCK`] weights.
    pub(super) const fn groups(self) -> usize {
        BLOCK / self.group
    }

    /// Whether two codes share a byte.
    pub(super) const fn is_nibbles(self) -> bool {
        self.max_code <= 15
    }

    /// Lines of memory with the codes of [`BLOCK`] weights in each row of a panel.
    pub(super) const fn lines(self) -> usize {
        if self.is_nibbles() { 4 } else { 8 }
    }

    /// Numbers beside the codes of a group: its scale, and its offset if it has one.
    pub(super) const fn scales(self) -> usize {
        if self.zero.is_some() { 1 } else { 2 }
    }
}

impl QuantFormat {
    pub(super) const fn layout(self) -> Layout {
        let (max_code, group, zero, block, block_bytes) = match self {
            Self::Q4_0 => (15, 32, Some(8), 32, 18),
            Self::Q4_1 => (15, 32, None, 32, 20),
            Self::Q5_0 => (31, 32, Some(16), 32, 22),
            Self::Q5_1 => (31, 32, None, 32, 24),
            Self::Q8_0 => (255, 32, Some(128), 32, 34),
            Self::Q2_K => (3, 16, None, 256, 84),
            Self::Q3_K => (7, 16, Some(4), 256, 110),
            Self::Q4_K => (15, 32, None, 256, 144),
            Self::Q5_K => (31, 32, None, 256, 176),
            Self::Q6_K => (63, 16, Some(32), 256, 210),
        };
        Layout { max_code, group, zero, block, block_bytes }
    }

    /// Bytes of a row of `depth` weights in a file, or `None` if a row is not a whole number of blocks.
    pub(crate) fn row_bytes(self, depth: usize) -> Option<usize> {
        let layout = self.layout();
        depth.is_multiple_of(layout.block).then(|| depth / layout.block * layout.block_bytes)
    }

    /// Every format.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 10] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];
}
