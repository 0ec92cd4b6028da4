//! Sentence encoders: BERT, and RoBERTa and XLM-RoBERTa, which count positions differently.

use serde_json::json;

use super::hugging_face::WITHOUT_EFFECT;
use crate::error::LoadError;
use crate::model::config::Config;
use crate::model::encoder::EncoderSpec;

/// A family of encoders.
pub(super) struct EncoderFamily {
    /// `model_type` in a Hugging Face `config.json`.
    pub(super) model_type: &'static str,
    /// What the names of tensors begin with where the file holds a model with a head.
    prefix: &'static str,
    /// Whether positions count from the padding token's id + 1, and not from 0.
    counts_from_padding: bool,
}

/// Every family of encoders.
pub(super) const ENCODERS: &[EncoderFamily] = &[
    EncoderFamily { model_type: "bert", prefix: "bert.", counts_from_padding: false },
    EncoderFamily { model_type: "roberta", prefix: "roberta.", counts_from_padding: true },
    EncoderFamily { model_type: "xlm-roberta", prefix: "roberta.", counts_from_padding: true },
];

/// Keys that do not change the hidden states of whole texts.
const NO_EFFECT: &[&str] = &[
    "attention_probs_dropout_prob",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "directionality",
    "hidden_dropout_prob",
    "id2label",
    "label2id",
    "output_past",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "problem_type",
    "return_dict",
    "tie_word_embeddings",
];

/// The spec that a configuration asks for; defaults are those of the classes in transformers.
pub(super) fn encoder_spec(family: &EncoderFamily, config: &Config<'_>) -> Result<EncoderSpec, LoadError> {
    config.without_effect(WITHOUT_EFFECT);
    config.without_effect(NO_EFFECT);
    config.only("hidden_act", &json!("gelu"))?;
    config.only("position_embedding_type", &json!("absolute"))?;
    let padding = if family.counts_from_padding { Some(config.size_or("pad_token_id", 1)?) } else { None };
    let spec = EncoderSpec {
        vocab_size: config.size("vocab_size")?,
        hidden_size: config.size_or("hidden_size", 768)?,
        num_hidden_layers: config.num_layers("num_hidden_layers")?,
        num_attention_heads: config.size_or("num_attention_heads", 12)?,
        intermediate_size: config.size_or("intermediate_size", 3072)?,
        type_vocab_size: config.size_or("type_vocab_size", 2)?,
        max_position_embeddings: config.size_or("max_position_embeddings", 512)?,
        position_offset: padding.map_or(0, |padding| padding.saturating_add(1)),
        layer_norm_eps: config.number_or("layer_norm_eps", 1e-12)? as f32,
        prefix: family.prefix,
    };
    config.finish()?;
    spec.validate()?;
    Ok(spec)
}
