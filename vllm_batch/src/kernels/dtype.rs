//! How weights, and keys and values, are kept in memory.

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

/// How keys and values are kept in memory. All arithmetic with them is f32.
///
/// # Example
/// ```
/// use vllm_batch::KvCacheDtype;
///
/// assert_eq!(KvCacheDtype::default(), KvCacheDtype::Auto);
/// assert_eq!(KvCacheDtype::F16.as_str(), "float16");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KvCacheDtype {
    /// [`F32`](Self::F32) if all weights are kept as f32, so that such an engine stays the reference for all others;
    /// otherwise [`F16`](Self::F16).
    #[default]
    Auto,
    /// Four bytes a number.
    F32,
    /// Two bytes a number, 11 bits of precision, rounded to the nearest. Numbers beyond 65,504 become that.
    F16,
}

impl KvCacheDtype {
    /// The name, as in vLLM's options.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "float32",
            Self::F16 => "float16",
        }
    }

    /// What it comes to with such weights.
    pub(crate) fn resolve(self, all_weights_are_f32: bool) -> CacheDtype {
        match self {
            Self::Auto if all_weights_are_f32 => CacheDtype::F32,
            Self::Auto | Self::F16 => CacheDtype::F16,
            Self::F32 => CacheDtype::F32,
        }
    }
}

/// What the numbers of a KV cache are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheDtype {
    /// `f32`
    F32,
    /// IEEE 754 half precision.
    F16,
}

impl CacheDtype {
    /// Bytes of a number.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// What it adds to the revision of an engine; nothing for f32, of which caches were before there was a choice.
    pub(crate) fn revision(self) -> &'static str {
        match self {
            Self::F32 => "",
            Self::F16 => "-kv_float16",
        }
    }
}
