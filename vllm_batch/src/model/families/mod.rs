//! Which architectures are known?

mod bert;
mod gemma;
mod gguf;
mod granite;
mod hugging_face;
mod llama;
mod mistral;
mod olmo2;
mod phi3;
mod qwen;
mod smollm3;

use super::config::Config;
use super::network::ModelSpec;
use super::slots::{Format, TensorNames};
use super::spec::{DecoderSpec, NormPlacement};
use super::weights::TensorSource;
use crate::error::LoadError;

/// A family of models: how its configurations map to a [`DecoderSpec`], and how its files hold the tensors.
#[derive(Debug)]
pub(super) struct Family {
    /// `model_type` in a Hugging Face `config.json`.
    pub(super) model_type: &'static str,
    /// `general.architecture` in a GGUF file. Of families that share one, the first reads it.
    pub(super) gguf_architecture: &'static str,
    from_hugging_face: fn(&Config<'_>) -> Result<DecoderSpec, LoadError>,
    from_gguf: fn(&Config<'_>, &dyn TensorSource) -> Result<DecoderSpec, LoadError>,
    /// Whether files have one tensor for query, key and value projections, and one for gate and up projections.
    fused: bool,
    /// Whether GGUF files have neighbouring rows as rotary pairs: those that llama.cpp rotates in its "normal" way.
    gguf_interleaved: bool,
    /// Whether the weights of normalisations lack 1 in Hugging Face's files. GGUF files have it.
    unit_offset: bool,
    /// What the names of tensors begin with in Hugging Face's files, where others belong to parts that are not text.
    tensor_prefix: &'static str,
}

/// Every family that is implemented.
pub(super) const FAMILIES: &[Family] = &[
    llama::FAMILY,
    mistral::FAMILY,
    smollm3::FAMILY,
    qwen::QWEN2,
    qwen::QWEN3,
    qwen::QWEN3_MOE,
    gemma::GEMMA2,
    gemma::GEMMA3,
    gemma::GEMMA3_MULTIMODAL,
    phi3::FAMILY,
    olmo2::FAMILY,
    granite::FAMILY,
];

impl Family {
    fn names(&self, format: Format, spec: &DecoderSpec) -> TensorNames {
        TensorNames {
            format,
            fused: self.fused,
            interleaved: format == Format::Gguf && self.gguf_interleaved,
            unit_offset: format == Format::HuggingFace && self.unit_offset,
            norms: spec.norms,
            prefix: if format == Format::HuggingFace { self.tensor_prefix } else { "" },
        }
    }
}

/// Reads a Hugging Face configuration of either kind of network.
///
/// # Errors
/// As [`spec_from_hugging_face`].
pub(super) fn model_from_hugging_face(config: &Config<'_>) -> Result<(ModelSpec, TensorNames), LoadError> {
    let model_type = config.string("model_type")?;
    let Some(family) = bert::ENCODERS.iter().find(|family| family.model_type == model_type) else {
        let (spec, names) = spec_from_hugging_face(config).map_err(with_encoders)?;
        return Ok((ModelSpec::Decoder(spec), names));
    };
    let names = TensorNames {
        format: Format::HuggingFace,
        fused: false,
        interleaved: false,
        unit_offset: false,
        norms: NormPlacement::Post,
        prefix: "",
    };
    Ok((ModelSpec::Encoder(bert::encoder_spec(family, config)?), names))
}

/// Reads a Hugging Face configuration of a decoder.
///
/// # Errors
/// If the family is unknown, or the configuration is broken or asks for what is not implemented.
pub(super) fn spec_from_hugging_face(config: &Config<'_>) -> Result<(DecoderSpec, TensorNames), LoadError> {
    let family = find(&config.string("model_type")?, |family| family.model_type)?;
    let spec = (family.from_hugging_face)(config)?;
    config.finish()?;
    spec.validate()?;
    let names = family.names(Format::HuggingFace, &spec);
    Ok((spec, names))
}

/// Reads the metadata of a GGUF file, given as the part below `{architecture}.`, and what it says by having a tensor or
/// not.
///
/// # Errors
/// As [`spec_from_hugging_face`].
pub(super) fn spec_from_gguf(
    architecture: &str,
    config: &Config<'_>,
    tensors: &dyn TensorSource,
) -> Result<(DecoderSpec, TensorNames), LoadError> {
    let family = find(architecture, |family| family.gguf_architecture)?;
    let spec = (family.from_gguf)(config, tensors)?;
    config.finish()?;
    spec.validate()?;
    let names = family.names(Format::Gguf, &spec);
    Ok((spec, names))
}

fn find(wanted: &str, name: impl Fn(&Family) -> &'static str) -> Result<&'static Family, LoadError> {
    FAMILIES.iter().find(|family| name(family) == wanted).ok_or_else(|| {
        let mut supported: Vec<_> = FAMILIES.iter().map(name).collect();
        supported.dedup();
        LoadError::UnsupportedArchitecture { architecture: wanted.to_owned(), supported }
    })
}

/// The error that names the encoders, too, among what is supported.
fn with_encoders(mut error: LoadError) -> LoadError {
    if let LoadError::UnsupportedArchitecture { supported, .. } = &mut error {
        supported.extend(bert::ENCODERS.iter().map(|family| family.model_type));
    }
    error
}

#[cfg(test)]
mod tests;
