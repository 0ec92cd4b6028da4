//! What a decoder computes, as data.

use crate::error::LoadError;
use crate::kernels::MAX_HEAD_DIM;

/// The architecture of a decoder-only transformer: pre-norm blocks of grouped-query attention and a gated feed-forward
/// layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DecoderSpec {
    /// Number of tokens in the vocabulary.
    pub(crate) vocab_size: usize,
    /// Width of the residual stream.
    pub(crate) hidden_size: usize,
    /// Width of the feed-forward layer.
    pub(crate) intermediate_size: usize,
    /// Number of blocks.
    pub(crate) num_hidden_layers: usize,
    /// Query heads in each block.
    pub(crate) num_attention_heads: usize,
    /// Key and value heads in each block; divides `num_attention_heads`.
    pub(crate) num_key_value_heads: usize,
    /// Width of a head.
    pub(crate) head_dim: usize,
    /// Added to the mean square in every normalisation.
    pub(crate) rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub(crate) rope_theta: f64,
    /// How the rotary frequencies are stretched beyond the length they were trained on.
    pub(crate) rope_scaling: RopeScaling,
    /// The longest context that the model was made for, in tokens.
    pub(crate) max_position_embeddings: usize,
    /// Whether query, key, value and output projections have a bias.
    pub(crate) attention_bias: bool,
    /// Whether the feed-forward layers have a bias.
    pub(crate) mlp_bias: bool,
    /// Whether the head is the embedding matrix.
    pub(crate) tie_word_embeddings: bool,
}

/// How rotary frequencies are stretched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RopeScaling {
    /// Not at all.
    None,
    /// Llama 3.1's: long waves are slowed down by `factor`, short ones kept, those between interpolated.
    Llama3 {
        /// How much slower long waves turn.
        factor: f64,
        /// Waves longer than `original_max_position_embeddings / low_freq_factor` are long.
        low_freq_factor: f64,
        /// Waves shorter than `original_max_position_embeddings / high_freq_factor` are short.
        high_freq_factor: f64,
        /// The context length before stretching.
        original_max_position_embeddings: usize,
    },
    /// A divisor for each frequency, as GGUF files carry them.
    Factors(Vec<f32>),
}

/// Far above any model, and far below what overflows when dimensions are multiplied.
const MAX_DIMENSION: usize = 1 << 24;

impl DecoderSpec {
    /// Checks that the dimensions fit each other.
    ///
    /// # Errors
    /// [`LoadError::BrokenConfig`] or [`LoadError::UnsupportedConfig`] for the first that does not.
    pub(crate) fn validate(&self) -> Result<(), LoadError> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        if let Some((key, value)) = positive.iter().find(|(_, value)| !(1..=MAX_DIMENSION).contains(value)) {
            return Err(broken(key, format!("{value} is not between 1 and {MAX_DIMENSION}")));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let message = format!("{} does not divide {}", self.num_key_value_heads, self.num_attention_heads);
            return Err(broken("num_key_value_heads", message));
        }
        if !self.head_dim.is_multiple_of(2) || self.head_dim > MAX_HEAD_DIM {
            let message = format!("{} is not an even number up to {MAX_HEAD_DIM}", self.head_dim);
            return Err(LoadError::UnsupportedConfig { key: "head_dim".to_owned(), message });
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return Err(broken("rms_norm_eps", format!("{} is not a number from 0 up", self.rms_norm_eps)));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return Err(broken("rope_theta", format!("{} is not a number above 0", self.rope_theta)));
        }
        self.rope_scaling.validate(self.head_dim / 2)
    }

    /// The angle by which each pair of a head turns per position: `head_dim / 2` numbers.
    pub(crate) fn inv_freq(&self) -> Vec<f32> {
        let pairs = self.head_dim / 2;
        let plain = (0..pairs).map(|i| {
            let exponent = (2 * i) as f32 / self.head_dim as f32;
            1.0 / (self.rope_theta as f32).powf(exponent)
        });
        plain.enumerate().map(|(i, freq)| self.rope_scaling.apply(i, freq)).collect()
    }
}

impl RopeScaling {
    fn validate(&self, pairs: usize) -> Result<(), LoadError> {
        match self {
            Self::None => Ok(()),
            Self::Factors(factors) if factors.len() != pairs => {
                Err(broken("rope_freqs", format!("{} factors for {pairs} frequencies", factors.len())))
            }
            Self::Factors(factors) => match factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
                Some(factor) => Err(broken("rope_freqs", format!("{factor} is not a number above 0"))),
                None => Ok(()),
            },
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let is_usable = |x: f64| (x as f32).is_finite() && x as f32 > 0.0;
                let numbers = [*factor, *low_freq_factor, *high_freq_factor, *original_max_position_embeddings as f64];
                if numbers.into_iter().all(is_usable) && high_freq_factor > low_freq_factor {
                    return Ok(());
                }
                let message = "needs numbers above 0, and low_freq_factor below high_freq_factor".to_owned();
                Err(broken("rope_scaling", message))
            }
        }
    }

    /// Llama 3.1's rule as in transformers' `modeling_rope_utils`, in f32 as there.
    fn apply(&self, index: usize, freq: f32) -> f32 {
        let (factor, low, high, original) = match self {
            Self::None => return freq,
            Self::Factors(factors) => return freq / factors[index],
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => (
                *factor as f32,
                *low_freq_factor as f32,
                *high_freq_factor as f32,
                *original_max_position_embeddings as f32,
            ),
        };
        let wavelength = 2.0 * std::f32::consts::PI / freq;
        if wavelength > original / low {
            return freq / factor;
        }
        if wavelength < original / high {
            return freq;
        }
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * freq / factor + smooth * freq
    }
}

fn broken(key: &str, message: String) -> LoadError {
    LoadError::BrokenConfig { key: key.to_owned(), message }
}
