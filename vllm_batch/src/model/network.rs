//! A network of either kind: a decoder that continues texts, or an encoder that reads them.

use candle_core::{Result, Tensor, bail};

use super::cache::KvCache;
use super::decoder::Decoder;
use super::encoder::{Encoder, EncoderSpec};
use super::input::ModelInput;
use super::spec::DecoderSpec;
use super::workspace::Workspace;

/// An architecture, as data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ModelSpec {
    /// It continues texts.
    Decoder(DecoderSpec),
    /// It reads whole texts.
    Encoder(EncoderSpec),
}

impl ModelSpec {
    /// Number of tokens in the vocabulary.
    pub(crate) fn vocab_size(&self) -> usize {
        match self {
            Self::Decoder(spec) => spec.vocab_size,
            Self::Encoder(spec) => spec.vocab_size,
        }
    }

    /// Width of the hidden states.
    pub(crate) fn hidden_size(&self) -> usize {
        match self {
            Self::Decoder(spec) => spec.hidden_size,
            Self::Encoder(spec) => spec.hidden_size,
        }
    }

    /// The longest context that the model can have, in tokens.
    pub(crate) fn max_len(&self) -> usize {
        match self {
            Self::Decoder(spec) => spec.max_position_embeddings,
            Self::Encoder(spec) => spec.max_len(),
        }
    }

    /// The tokens that each token sees, if no layer shows it the whole sequence.
    pub(crate) fn sliding_window(&self) -> Option<usize> {
        match self {
            Self::Decoder(spec) => spec.sliding_window(),
            Self::Encoder(_) => None,
        }
    }

    /// Whether the network reads whole texts, and cannot continue them.
    pub(crate) fn is_encoder(&self) -> bool {
        matches!(self, Self::Encoder(_))
    }
}

/// The weights of a model. Immutable.
#[derive(Debug)]
pub(crate) enum Network {
    /// It continues texts.
    Decoder(Box<Decoder>),
    /// It reads whole texts.
    Encoder(Box<Encoder>),
}

impl Network {
    /// Computes the input's tokens and returns the last hidden states of those that are wanted: shape
    /// `[rows, hidden_size]`, which the next call with this workspace may overwrite. A decoder writes keys and values into
    /// `cache`; an encoder has no use for one.
    ///
    /// # Errors
    /// If the input does not fit: a mistake of the caller.
    pub(crate) fn forward(&self, input: &ModelInput, cache: &mut KvCache, work: &mut Workspace) -> Result<Tensor> {
        match self {
            Self::Decoder(decoder) => decoder.forward(input, cache, work),
            Self::Encoder(encoder) => encoder.forward(input, work),
        }
    }

    /// The logits that belong to hidden states, of shape `[rows, vocab_size]`, in the workspace, where the next call
    /// overwrites them.
    ///
    /// # Errors
    /// If the network is an encoder, or the hidden states are of another model.
    pub(crate) fn logits(&self, hidden: &Tensor, work: &mut Workspace) -> Result<Tensor> {
        match self {
            Self::Decoder(decoder) => decoder.logits(hidden, work),
            Self::Encoder(_) => bail!("an encoder has no logits"),
        }
    }
}
