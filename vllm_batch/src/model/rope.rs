//! Rotary position embedding: by which angle does each pair of a head turn per position?
//!
//! The rules for longer contexts are those of transformers' `modeling_rope_utils.py`. Two of them depend on the length of
//! the sequence there; here, as in vLLM, on the longest one that the engine may have (`max_model_len`), so that a token's
//! keys are the same in every sequence.

use std::f32::consts::PI;

use crate::error::LoadError;

/// How the heads of a layer turn (Su and others, <https://arxiv.org/abs/2104.09864>).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RopeSpec {
    /// Base of the frequencies.
    pub(crate) theta: f64,
    /// How many of a head's numbers turn, from the first on: an even number.
    pub(crate) dim: usize,
    /// How frequencies are stretched beyond the length they were trained on.
    pub(crate) scaling: RopeScaling,
}

/// How rotary frequencies are stretched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RopeScaling {
    /// Not at all.
    None,
    /// Every wave is slowed down by `factor`.
    Linear {
        /// How much slower.
        factor: f64,
    },
    /// A larger base, by the ratio of the longest sequence to the trained length.
    Dynamic {
        /// How strongly.
        factor: f64,
        /// The context length before stretching.
        original_max_position_embeddings: usize,
    },
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
    /// YaRN (Peng and others, <https://arxiv.org/abs/2309.00071>).
    Yarn(Yarn),
    /// LongRoPE (Ding and others, <https://arxiv.org/abs/2402.13753>): a divisor for each frequency.
    LongRope {
        /// Divisors where no sequence is longer than the trained length.
        short_factor: Vec<f32>,
        /// Divisors where one may be.
        long_factor: Vec<f32>,
        /// The context length before stretching.
        original_max_position_embeddings: usize,
        /// By how much heads grow.
        attention_factor: f64,
    },
    /// A divisor for each frequency, as GGUF files carry them.
    Factors(Vec<f32>),
}

/// The settings of [`RopeScaling::Yarn`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Yarn {
    /// How much slower long waves turn.
    pub(crate) factor: f64,
    /// Waves that turn more often than this in the original context are kept.
    pub(crate) beta_fast: f64,
    /// Waves that turn less often than this are slowed down fully.
    pub(crate) beta_slow: f64,
    /// Whether the range between is rounded to whole pairs.
    pub(crate) truncate: bool,
    /// The context length before stretching.
    pub(crate) original_max_position_embeddings: usize,
    /// By how much heads grow.
    pub(crate) attention_factor: f64,
}

impl RopeSpec {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`LoadError::BrokenConfig`] for the first that is outside its domain.
    pub(crate) fn validate(&self, head_dim: usize) -> Result<(), LoadError> {
        if !self.dim.is_multiple_of(2) || !(2..=head_dim).contains(&self.dim) {
            let message = format!("{} numbers of a head of {head_dim} cannot turn", self.dim);
            return Err(broken("partial_rotary_factor", message));
        }
        // A base of 1 has no logarithm to divide by.
        if !(self.theta.is_finite() && self.theta > 1.0) {
            return Err(broken("rope_theta", format!("{} is not a number above 1", self.theta)));
        }
        self.scaling.validate(self.dim / 2)
    }

    /// The angle by which each pair turns per position, `dim / 2` numbers, and by how much heads grow, for sequences of up
    /// to `max_model_len` tokens.
    pub(crate) fn frequencies(&self, max_model_len: usize) -> (Vec<f32>, f32) {
        let plain = frequencies(self.theta, self.dim);
        let divided = |factors: &[f32]| plain.iter().zip(factors).map(|(freq, factor)| freq / factor).collect();
        match &self.scaling {
            RopeScaling::None => (plain, 1.0),
            RopeScaling::Linear { factor } => (divided(&vec![*factor as f32; plain.len()]), 1.0),
            RopeScaling::Dynamic { factor, original_max_position_embeddings } => {
                let ratio = max_model_len.max(*original_max_position_embeddings) as f64
                    / *original_max_position_embeddings as f64;
                let exponent = self.dim as f64 / (self.dim as f64 - 2.0);
                let theta = self.theta * (factor * ratio - (factor - 1.0)).powf(exponent);
                (frequencies(theta, self.dim), 1.0)
            }
            RopeScaling::Llama3 { .. } => (plain.iter().map(|freq| self.scaling.llama3(*freq)).collect(), 1.0),
            RopeScaling::Yarn(yarn) => (yarn.frequencies(self, &plain), yarn.attention_factor as f32),
            RopeScaling::LongRope { short_factor, long_factor, original_max_position_embeddings, attention_factor } => {
                let is_long = max_model_len > *original_max_position_embeddings;
                (divided(if is_long { long_factor } else { short_factor }), *attention_factor as f32)
            }
            RopeScaling::Factors(factors) => (divided(factors), 1.0),
        }
    }
}

/// `1 / thetaⁱ` for the even numbers `2i` of `dim`, as fractions of it; in f32, as transformers computes them.
fn frequencies(theta: f64, dim: usize) -> Vec<f32> {
    let theta = theta as f32;
    (0..dim / 2).map(|i| 1.0 / theta.powf((2 * i) as f32 / dim as f32)).collect()
}

impl RopeScaling {
    /// The longest context of a model that was trained on `trained` tokens, as vLLM has it.
    pub(crate) fn stretched(&self, trained: usize) -> usize {
        let times = |length: usize, factor: f64| (length as f64 * factor) as usize;
        match self {
            Self::Linear { factor } | Self::Dynamic { factor, .. } => times(trained, *factor),
            Self::Yarn(yarn) => times(yarn.original_max_position_embeddings, yarn.factor),
            Self::None | Self::Llama3 { .. } | Self::LongRope { .. } | Self::Factors(_) => trained,
        }
    }

    fn validate(&self, pairs: usize) -> Result<(), LoadError> {
        let numbers: Vec<f64> = match self {
            Self::None => Vec::new(),
            Self::Linear { factor } => vec![*factor],
            Self::Dynamic { .. } if pairs < 2 => {
                return Err(broken("rope_scaling", "a single pair has no base to change".to_owned()));
            }
            Self::Dynamic { factor, original_max_position_embeddings: original } => vec![*factor, *original as f64],
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                if high_freq_factor <= low_freq_factor {
                    let message = "low_freq_factor must be below high_freq_factor".to_owned();
                    return Err(broken("rope_scaling", message));
                }
                vec![*factor, *low_freq_factor, *high_freq_factor, *original_max_position_embeddings as f64]
            }
            Self::Yarn(yarn) => yarn.numbers(),
            Self::LongRope { short_factor, long_factor, original_max_position_embeddings, attention_factor } => {
                divisors("short_factor", short_factor, pairs)?;
                divisors("long_factor", long_factor, pairs)?;
                vec![*original_max_position_embeddings as f64, *attention_factor]
            }
            Self::Factors(factors) => return divisors("rope_freqs", factors, pairs),
        };
        let is_usable = |x: &f64| (*x as f32).is_finite() && *x as f32 > 0.0;
        match numbers.iter().find(|x| !is_usable(x)) {
            Some(number) => Err(broken("rope_scaling", format!("{number} is not a number above 0"))),
            None => Ok(()),
        }
    }

    /// Llama 3.1's rule, in f32 as transformers computes it; other rules leave the frequency as it is.
    fn llama3(&self, freq: f32) -> f32 {
        let Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } = self else {
            return freq;
        };
        let (factor, low, high) = (*factor as f32, *low_freq_factor as f32, *high_freq_factor as f32);
        let original = *original_max_position_embeddings as f32;
        let wavelength = 2.0 * PI / freq;
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

impl Yarn {
    /// By how much heads grow where a configuration does not say: equation 22 of the paper.
    pub(crate) fn default_attention_factor(factor: f64, mscale: f64) -> f64 {
        if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
    }

    fn numbers(&self) -> Vec<f64> {
        let original = self.original_max_position_embeddings as f64;
        vec![self.factor, self.beta_fast, self.beta_slow, original, self.attention_factor]
    }

    fn frequencies(&self, rope: &RopeSpec, plain: &[f32]) -> Vec<f32> {
        let dim = rope.dim as f64;
        // The pair that turns so often in the original context.
        let pair = |turns: f64| {
            let original = self.original_max_position_embeddings as f64;
            dim * (original / (turns * 2.0 * std::f64::consts::PI)).ln() / (2.0 * rope.theta.ln())
        };
        let (mut low, mut high) = (pair(self.beta_fast), pair(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let factor = self.factor as f32;
        let slow_share = |i: usize| (((i as f64 - low) / (high - low)) as f32).clamp(0.0, 1.0);
        let mixed = |(i, freq): (usize, &f32)| freq / factor * slow_share(i) + freq * (1.0 - slow_share(i));
        plain.iter().enumerate().map(mixed).collect()
    }
}

fn divisors(key: &str, factors: &[f32], pairs: usize) -> Result<(), LoadError> {
    if factors.len() != pairs {
        return Err(broken(key, format!("{} factors for {pairs} frequencies", factors.len())));
    }
    match factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
        Some(factor) => Err(broken(key, format!("{factor} is not a number above 0"))),
        None => Ok(()),
    }
}

fn broken(key: &str, message: String) -> LoadError {
    LoadError::BrokenConfig { key: key.to_owned(), message }
}
