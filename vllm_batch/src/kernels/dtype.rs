//! How weights are kept in memory.

/// How weights are kept in memory, and so how they are multiplied.
///
/// Dense weights are widened to f32 when they are used, and all arithmetic with them is f32. Quantised weights are
/// multiplied as the integers that they are, with activations that are quantised to 8 bits in blocks of 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WeightDtype {
    /// Quantised tensors as the file has them, all others as [`F32`](Self::F32).
    #[default]
    Auto,
    /// Four bytes a weight. Quantised tensors are widened, which makes this the reference for all others.
    F32,
    /// Two bytes a weight, 11 bits of precision, up to 65,504. Quantised tensors are widened first.
    F16,
    /// Two bytes a weight, 8 bits of precision, the range of f32. Quantised tensors are widened first.
    Bf16,
    /// Quantised tensors as the file has them; others are quantised to 8 bits with a scale for each 32 weights, as
    /// llama.cpp does for its format of this name. About 1.06 bytes a weight.
    Q8_0,
    /// Quantised tensors as the file has them; others are quantised to 4 bits with a scale for each 32 weights, as
    /// llama.cpp does for its format of this name, but for the embedding and the head, which get 8 bits. About 0.56
    /// bytes a weight.
    Q4_0,
}

impl WeightDtype {
    /// The name, as in vLLM's `dtype` option, or of GGML's format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// Whether tensors that a file has in a quantised format stay in it.
    pub(crate) fn keeps_quantized(self) -> bool {
        matches!(self, Self::Auto | Self::Q8_0 | Self::Q4_0)
    }
}
