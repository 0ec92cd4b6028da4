//! OLMo 2: layers normalise what they add, not what they read.

use super::{Family, gguf, hugging_face};
use crate::error::LoadError;
use crate::model::config::Config;
use crate::model::spec::{DecoderSpec, NormPlacement, QkNormKind};
use crate::model::weights::TensorSource;

pub(super) const FAMILY: Family = Family {
    model_type: "olmo2",
    gguf_architecture: "olmo2",
    from_hugging_face,
    from_gguf,
    fused: false,
    gguf_interleaved: false,
    unit_offset: false,
    tensor_prefix: "",
};

const DEFAULTS: hugging_face::Defaults = hugging_face::Defaults { rms_norm_eps: 1e-5, ..hugging_face::COMMON };

fn from_hugging_face(config: &Config<'_>) -> Result<DecoderSpec, LoadError> {
    let mut spec = hugging_face::base(config, &DEFAULTS)?;
    hugging_face::silu(config)?;
    hugging_face::attention_bias(config, &mut spec)?;
    post_normalised(&mut spec);
    Ok(spec)
}

fn from_gguf(config: &Config<'_>, tensors: &dyn TensorSource) -> Result<DecoderSpec, LoadError> {
    let mut spec = gguf::base(config, tensors)?;
    post_normalised(&mut spec);
    Ok(spec)
}

fn post_normalised(spec: &mut DecoderSpec) {
    spec.norms = NormPlacement::Post;
    spec.qk_norm = Some(QkNormKind::Whole);
}
