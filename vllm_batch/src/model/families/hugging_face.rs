//! What Hugging Face configurations of all families have in common.

use serde_json::{Value, json};

use crate::error::LoadError;
use crate::kernels::Activation;
use crate::model::config::Config;
use crate::model::rope::{RopeScaling, RopeSpec, Yarn};
use crate::model::spec::{Biases, DecoderSpec, FeedForwardSpec, LayerSpec, NormPlacement};

/// What a family assumes where a configuration is silent: the defaults of its class in transformers.
pub(super) struct Defaults {
    /// Needed if absent.
    pub(super) vocab_size: Option<usize>,
    /// Needed if absent.
    pub(super) num_attention_heads: Option<usize>,
    /// As many as query heads if absent.
    pub(super) num_key_value_heads: Option<usize>,
    /// `hidden_size / num_attention_heads` if absent.
    pub(super) head_dim: Option<usize>,
    pub(super) rms_norm_eps: f64,
    pub(super) max_position_embeddings: usize,
    pub(super) rope_theta: f64,
    /// Base of the rotary frequencies of layers with a window, where they have their own.
    pub(super) local_rope_theta: Option<f64>,
    pub(super) tie_word_embeddings: bool,
}

/// The defaults that most families share.
pub(super) const COMMON: Defaults = Defaults {
    vocab_size: None,
    num_attention_heads: None,
    num_key_value_heads: None,
    head_dim: None,
    rms_norm_eps: 1e-6,
    max_position_embeddings: 2048,
    rope_theta: 10_000.0,
    local_rope_theta: None,
    tie_word_embeddings: false,
};

/// Keys of a `config.json` that do not change what the decoder computes.
pub(super) const WITHOUT_EFFECT: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "auto_map",
    "bos_token_id",
    "cache_implementation",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "initializer_range",
    "is_llama_config",
    "max_window_layers",
    "model_type",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "resid_pdrop",
    "router_aux_loss_coef",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
];

/// A pre-norm decoder with dense, gated feed-forward layers, one rotary embedding and no windows: families change what is
/// different about theirs. The key of the activation is left to them.
pub(super) fn base(config: &Config<'_>, defaults: &Defaults) -> Result<DecoderSpec, LoadError> {
    config.without_effect(WITHOUT_EFFECT);
    config.only("rope_interleaved", &json!(false))?;
    let size = |key: &str, default: Option<usize>| match default {
        Some(default) => config.size_or(key, default),
        None => config.size(key),
    };
    let hidden_size = config.size("hidden_size")?;
    let num_attention_heads = size("num_attention_heads", defaults.num_attention_heads)?;
    let head_dim = defaults.head_dim.unwrap_or_else(|| hidden_size / num_attention_heads.max(1));
    let head_dim = config.size_or("head_dim", head_dim)?;
    let trained = config.size_or("max_position_embeddings", defaults.max_position_embeddings)?;
    let ropes = ropes(config, defaults, head_dim)?;
    let dense = FeedForwardSpec::Dense { intermediate_size: config.size("intermediate_size")? };
    let layer = LayerSpec { rope: Some(0), window: None, feed_forward: dense };
    let kv_heads = defaults.num_key_value_heads.unwrap_or(num_attention_heads);
    Ok(DecoderSpec {
        vocab_size: size("vocab_size", defaults.vocab_size)?,
        hidden_size,
        num_attention_heads,
        num_key_value_heads: config.size_or("num_key_value_heads", kv_heads)?,
        head_dim,
        layers: vec![layer; config.num_layers("num_hidden_layers")?],
        max_position_embeddings: ropes[0].scaling.stretched(trained),
        ropes,
        norms: NormPlacement::Pre,
        rms_norm_eps: config.number_or("rms_norm_eps", defaults.rms_norm_eps)? as f32,
        qk_norm: None,
        attention_scale: 1.0 / (head_dim as f32).sqrt(),
        attention_soft_cap: None,
        biases: Biases::default(),
        activation: Activation::Silu,
        embedding_multiplier: 1.0,
        residual_multiplier: 1.0,
        logits_divisor: 1.0,
        logit_soft_cap: None,
        tie_word_embeddings: config.flag_or("tie_word_embeddings", defaults.tie_word_embeddings)?,
    })
}

/// The activation `silu` by the key that most families use.
pub(super) fn silu(config: &Config<'_>) -> Result<(), LoadError> {
    config.only("hidden_act", &json!("silu"))
}

/// Biases of all projections of attention by one key.
pub(super) fn attention_bias(config: &Config<'_>, spec: &mut DecoderSpec) -> Result<(), LoadError> {
    let biased = config.flag_or("attention_bias", false)?;
    (spec.biases.qkv, spec.biases.output) = (biased, biased);
    Ok(())
}

/// Gives layers a window of `size`: those that `layer_types` lists as sliding, or without that key those that `default`
/// chooses. Without a size, no layer has one.
pub(super) fn windows(
    config: &Config<'_>,
    spec: &mut DecoderSpec,
    size: Option<usize>,
    default: impl Fn(usize) -> bool,
) -> Result<(), LoadError> {
    let types = config.strings("layer_types")?;
    if types.as_ref().is_some_and(|types| types.len() != spec.layers.len()) {
        return Err(config.broken("layer_types", format!("{} layers need as many entries", spec.layers.len())));
    }
    for (i, layer) in spec.layers.iter_mut().enumerate() {
        let slides = match types.as_ref().map(|types| types[i]) {
            None => default(i),
            Some("sliding_attention") => true,
            Some("full_attention") => false,
            Some(other) => return Err(config.unsupported("layer_types", format!("{other:?} layers are not"))),
        };
        layer.window = size.filter(|_| slides);
    }
    Ok(())
}

/// The rotary settings, in the style of transformers 5 (`rope_parameters`) or before (`rope_theta`, `rope_scaling`): one
/// for all layers, or, for a family whose layers with a window have their own, that of the others and theirs.
fn ropes(config: &Config<'_>, defaults: &Defaults, head_dim: usize) -> Result<Vec<RopeSpec>, LoadError> {
    let context = RopeContext {
        head_dim,
        theta: config.number_or("rope_theta", defaults.rope_theta)?,
        share: config.number_or("partial_rotary_factor", 1.0)?,
        max_position_embeddings: config.size_or("max_position_embeddings", defaults.max_position_embeddings)?,
        original: config.optional_size("original_max_position_embeddings")?,
    };
    let parameters = config.object("rope_parameters", "rope_parameters.")?;
    if parameters.is_some() {
        config.only("rope_scaling", &Value::Null)?;
    }
    let Some(local_theta) = defaults.local_rope_theta else {
        let parameters =
            parameters.map_or_else(|| config.object("rope_scaling", "rope_scaling."), |found| Ok(Some(found)));
        return Ok(vec![context.rope(parameters?.as_ref())?]);
    };
    let local = RopeContext { theta: config.number_or("rope_local_base_freq", local_theta)?, ..context };
    let Some(parameters) = parameters else {
        let scaling = config.object("rope_scaling", "rope_scaling.")?;
        return Ok(vec![context.rope(scaling.as_ref())?, local.rope(None)?]);
    };
    let full = parameters.object("full_attention", "rope_parameters.full_attention.")?;
    let sliding = parameters.object("sliding_attention", "rope_parameters.sliding_attention.")?;
    parameters.finish()?;
    Ok(vec![context.rope(full.as_ref())?, local.rope(sliding.as_ref())?])
}

/// What rotary settings take from the rest of the configuration.
struct RopeContext {
    head_dim: usize,
    theta: f64,
    /// How much of a head turns.
    share: f64,
    max_position_embeddings: usize,
    /// The trained length, where it does not stand among the rotary settings.
    original: Option<usize>,
}

impl RopeContext {
    fn rope(&self, parameters: Option<&Config<'_>>) -> Result<RopeSpec, LoadError> {
        let dim = |share: f64| (self.head_dim as f64 * share) as usize;
        let Some(parameters) = parameters else {
            return Ok(RopeSpec { theta: self.theta, dim: dim(self.share), scaling: RopeScaling::None });
        };
        let rope = RopeSpec {
            theta: parameters.number_or("rope_theta", self.theta)?,
            dim: dim(parameters.number_or("partial_rotary_factor", self.share)?),
            scaling: self.scaling(parameters)?,
        };
        parameters.finish()?;
        Ok(rope)
    }

    fn scaling(&self, config: &Config<'_>) -> Result<RopeScaling, LoadError> {
        let kind = match config.get("rope_type").or_else(|| config.get("type")) {
            None => "default".to_owned(),
            Some(kind) => kind.as_str().map_or_else(|| kind.to_string(), str::to_owned),
        };
        config.without_effect(&["type", "original_max_position_embeddings"]);
        Ok(match kind.as_str() {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: config.number("factor")? },
            "dynamic" => RopeScaling::Dynamic {
                factor: config.number("factor")?,
                original_max_position_embeddings: self.max_position_embeddings,
            },
            "llama3" => RopeScaling::Llama3 {
                factor: config.number("factor")?,
                low_freq_factor: config.number("low_freq_factor")?,
                high_freq_factor: config.number("high_freq_factor")?,
                original_max_position_embeddings: self.original(config)?,
            },
            "yarn" => self.yarn(config)?,
            "longrope" | "su" => self.longrope(config)?,
            other => {
                let known = "default, linear, dynamic, llama3, yarn and longrope are";
                return Err(config.unsupported("rope_type", format!("{other:?}; {known}")));
            }
        })
    }

    fn original(&self, config: &Config<'_>) -> Result<usize, LoadError> {
        let nested = config.size_or("original_max_position_embeddings", self.max_position_embeddings)?;
        Ok(self.original.unwrap_or(nested))
    }

    /// The factor, or how much longer the context became.
    fn factor(&self, config: &Config<'_>, original: usize) -> Result<f64, LoadError> {
        config.number_or("factor", self.max_position_embeddings as f64 / original.max(1) as f64)
    }

    fn yarn(&self, config: &Config<'_>) -> Result<RopeScaling, LoadError> {
        let original = self.original(config)?;
        let factor = self.factor(config, original)?;
        let by_mscale = match (config.number_or("mscale", 0.0)?, config.number_or("mscale_all_dim", 0.0)?) {
            (mscale, all) if mscale != 0.0 && all != 0.0 => {
                Yarn::default_attention_factor(factor, mscale) / Yarn::default_attention_factor(factor, all)
            }
            _ => Yarn::default_attention_factor(factor, 1.0),
        };
        Ok(RopeScaling::Yarn(Yarn {
            factor,
            beta_fast: config.number_or("beta_fast", 32.0)?,
            beta_slow: config.number_or("beta_slow", 1.0)?,
            truncate: config.flag_or("truncate", true)?,
            original_max_position_embeddings: original,
            attention_factor: config.number_or("attention_factor", by_mscale)?,
        }))
    }

    fn longrope(&self, config: &Config<'_>) -> Result<RopeScaling, LoadError> {
        let original = self.original(config)?;
        let factor = self.factor(config, original)?;
        let default = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
        let factors = |key: &str| Ok::<_, LoadError>(config.numbers(key)?.iter().map(|x| *x as f32).collect());
        Ok(RopeScaling::LongRope {
            short_factor: factors("short_factor")?,
            long_factor: factors("long_factor")?,
            original_max_position_embeddings: original,
            attention_factor: config.number_or("attention_factor", default)?,
        })
    }
}
