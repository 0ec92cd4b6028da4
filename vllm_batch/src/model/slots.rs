//! The places in a network that tensors fill, and what files call those tensors.

use super::spec::{DecoderSpec, FeedForwardSpec, NormPlacement};

/// A place in a network that a tensor fills, in a decoder unless it says otherwise; layers count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Embedding,
    FinalNorm,
    Head,
    AttentionNorm(usize),
    PostAttentionNorm(usize),
    FeedForwardNorm(usize),
    PostFeedForwardNorm(usize),
    QueryNorm(usize),
    KeyNorm(usize),
    Query(usize),
    Key(usize),
    Value(usize),
    /// Query, key and value projections, one below the other.
    Qkv(usize),
    Output(usize),
    Gate(usize),
    Up(usize),
    /// Gate and up projections, one below the other.
    GateUp(usize),
    Down(usize),
    /// Scores the experts of a layer.
    Router(usize),
    /// Layer and expert.
    ExpertGate(usize, usize),
    ExpertUp(usize, usize),
    ExpertDown(usize, usize),
    /// The bias of the projection that has this name without its last part.
    QueryBias(usize),
    KeyBias(usize),
    ValueBias(usize),
    QkvBias(usize),
    OutputBias(usize),
    GateBias(usize),
    UpBias(usize),
    GateUpBias(usize),
    DownBias(usize),
    /// A place in an encoder.
    Encoder(EncoderSlot),
}

/// A place in an encoder, under the name that BERT's files have for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EncoderSlot {
    layer: Option<usize>,
    module: &'static str,
    is_bias: bool,
}

impl EncoderSlot {
    /// The weights of a module.
    pub(super) const fn new(module: &'static str) -> Self {
        Self { layer: None, module, is_bias: false }
    }

    /// The same in a layer.
    pub(super) fn in_layer(self, layer: usize) -> Self {
        Self { layer: Some(layer), ..self }
    }

    /// Whether it is looked up, not multiplied with.
    pub(super) fn is_embedding(self) -> bool {
        self.layer.is_none()
    }

    /// The name without what all names begin with.
    pub(super) fn name(self) -> String {
        let layer = self.layer.map_or_else(String::new, |layer| format!("encoder.layer.{layer}."));
        let part = if self.is_bias { "bias" } else { "weight" };
        format!("{layer}{}.{part}", self.module)
    }
}

impl Slot {
    /// The bias that belongs to a projection; other slots have none and stay what they are.
    pub(super) fn bias(self) -> Self {
        match self {
            Self::Query(i) => Self::QueryBias(i),
            Self::Key(i) => Self::KeyBias(i),
            Self::Value(i) => Self::ValueBias(i),
            Self::Qkv(i) => Self::QkvBias(i),
            Self::Output(i) => Self::OutputBias(i),
            Self::Gate(i) => Self::GateBias(i),
            Self::Up(i) => Self::UpBias(i),
            Self::GateUp(i) => Self::GateUpBias(i),
            Self::Down(i) => Self::DownBias(i),
            Self::Encoder(slot) => Self::Encoder(EncoderSlot { is_bias: true, ..slot }),
            other => other,
        }
    }

    /// The name of the slot's tensor in GGUF files.
    pub(super) fn gguf_name(self) -> String {
        let (layer, part) = match self {
            Self::Embedding => return "token_embd.weight".to_owned(),
            Self::FinalNorm => return "output_norm.weight".to_owned(),
            Self::Head => return "output.weight".to_owned(),
            Self::Encoder(slot) => return slot.name(),
            Self::AttentionNorm(i) => (i, "attn_norm.weight"),
            Self::PostAttentionNorm(i) => (i, "post_attention_norm.weight"),
            Self::FeedForwardNorm(i) => (i, "ffn_norm.weight"),
            Self::PostFeedForwardNorm(i) => (i, "post_ffw_norm.weight"),
            Self::QueryNorm(i) => (i, "attn_q_norm.weight"),
            Self::KeyNorm(i) => (i, "attn_k_norm.weight"),
            Self::Query(i) => (i, "attn_q.weight"),
            Self::Key(i) => (i, "attn_k.weight"),
            Self::Value(i) => (i, "attn_v.weight"),
            Self::Qkv(i) => (i, "attn_qkv.weight"),
            Self::Output(i) => (i, "attn_output.weight"),
            Self::Gate(i) => (i, "ffn_gate.weight"),
            Self::Up(i) | Self::GateUp(i) => (i, "ffn_up.weight"),
            Self::Down(i) => (i, "ffn_down.weight"),
            Self::Router(i) => (i, "ffn_gate_inp.weight"),
            Self::ExpertGate(i, _) => (i, "ffn_gate_exps.weight"),
            Self::ExpertUp(i, _) => (i, "ffn_up_exps.weight"),
            Self::ExpertDown(i, _) => (i, "ffn_down_exps.weight"),
            Self::QueryBias(i) => (i, "attn_q.bias"),
            Self::KeyBias(i) => (i, "attn_k.bias"),
            Self::ValueBias(i) => (i, "attn_v.bias"),
            Self::QkvBias(i) => (i, "attn_qkv.bias"),
            Self::OutputBias(i) => (i, "attn_output.bias"),
            Self::GateBias(i) => (i, "ffn_gate.bias"),
            Self::UpBias(i) | Self::GateUpBias(i) => (i, "ffn_up.bias"),
            Self::DownBias(i) => (i, "ffn_down.bias"),
        };
        format!("blk.{layer}.{part}")
    }
}

/// A file's format, which decides the names of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `model.layers.0.self_attn.q_proj.weight`.
    HuggingFace,
    /// `blk.0.attn_q.weight`.
    Gguf,
}

/// How the files of one family in one format hold its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TensorNames {
    pub(super) format: Format,
    /// Whether query, key and value projections are one tensor, and gate and up projections another.
    pub(super) fused: bool,
    /// Whether rotary pairs are neighbouring rows of query and key projections, `(2i, 2i + 1)`, and not
    /// `(i, i + head_dim / 2)`.
    pub(super) interleaved: bool,
    /// Whether the weights of normalisations lack 1.
    pub(super) unit_offset: bool,
    /// Where blocks normalise: Hugging Face's names differ.
    pub(super) norms: NormPlacement,
    /// What all names begin with; tensors without it belong to other parts of the model.
    pub(super) prefix: &'static str,
}

impl TensorNames {
    /// The name of the tensor for a slot.
    pub(super) fn name(self, slot: Slot) -> String {
        let name = match self.format {
            Format::HuggingFace => self.hugging_face_name(slot),
            Format::Gguf => slot.gguf_name(),
        };
        format!("{}{name}", self.prefix)
    }

    /// What Hugging Face's files of the same text model call and hold: what adapters for it are made of.
    pub(super) fn of_adapters(self) -> Self {
        Self { format: Format::HuggingFace, interleaved: false, ..self }
    }

    /// Whether the rows of this slot come as neighbouring rotary pairs.
    pub(super) fn interleaves(self, slot: Slot) -> bool {
        use Slot::{Key, KeyBias, Query, QueryBias};
        self.interleaved && matches!(slot, Query(_) | Key(_) | QueryBias(_) | KeyBias(_))
    }

    /// Which part of its tensor the slot is, where one tensor holds all experts.
    pub(super) fn part_of_stack(self, slot: Slot) -> Option<usize> {
        match slot {
            Slot::ExpertGate(_, expert) | Slot::ExpertUp(_, expert) | Slot::ExpertDown(_, expert)
                if self.format == Format::Gguf =>
            {
                Some(expert)
            }
            _ => None,
        }
    }

    /// Every slot of a decoder.
    pub(super) fn slots(self, spec: &DecoderSpec) -> Vec<Slot> {
        let mut slots = vec![Slot::Embedding, Slot::FinalNorm];
        if !spec.tie_word_embeddings {
            slots.push(Slot::Head);
        }
        for (i, layer) in spec.layers.iter().enumerate() {
            slots.extend(norms(spec, i));
            slots.extend(self.attention(spec, i));
            match &layer.feed_forward {
                FeedForwardSpec::Dense { .. } => slots.extend(self.dense(spec, i)),
                FeedForwardSpec::Experts(experts) => {
                    let expert = |j| [Slot::ExpertGate(i, j), Slot::ExpertUp(i, j), Slot::ExpertDown(i, j)];
                    slots.push(Slot::Router(i));
                    slots.extend((0..experts.num_experts).flat_map(expert));
                }
            }
        }
        slots
    }

    fn attention(self, spec: &DecoderSpec, i: usize) -> Vec<Slot> {
        let qkv = if self.fused { vec![Slot::Qkv(i)] } else { vec![Slot::Query(i), Slot::Key(i), Slot::Value(i)] };
        with_biases(qkv, spec.biases.qkv).chain(with_biases(vec![Slot::Output(i)], spec.biases.output)).collect()
    }

    fn dense(self, spec: &DecoderSpec, i: usize) -> impl Iterator<Item = Slot> {
        let inner = if self.fused { vec![Slot::GateUp(i)] } else { vec![Slot::Gate(i), Slot::Up(i)] };
        with_biases(inner.into_iter().chain([Slot::Down(i)]).collect(), spec.biases.mlp)
    }

    fn hugging_face_name(self, slot: Slot) -> String {
        let (layer, part) = match slot {
            Slot::Embedding => return "model.embed_tokens.weight".to_owned(),
            Slot::FinalNorm => return "model.norm.weight".to_owned(),
            Slot::Head => return "lm_head.weight".to_owned(),
            Slot::Encoder(slot) => return slot.name(),
            Slot::AttentionNorm(i) => (i, "input_layernorm.weight"),
            Slot::FeedForwardNorm(i) if self.norms == NormPlacement::Sandwich => {
                (i, "pre_feedforward_layernorm.weight")
            }
            Slot::PostAttentionNorm(i) | Slot::FeedForwardNorm(i) => (i, "post_attention_layernorm.weight"),
            Slot::PostFeedForwardNorm(i) => (i, "post_feedforward_layernorm.weight"),
            Slot::QueryNorm(i) => (i, "self_attn.q_norm.weight"),
            Slot::KeyNorm(i) => (i, "self_attn.k_norm.weight"),
            Slot::Query(i) => (i, "self_attn.q_proj.weight"),
            Slot::Key(i) => (i, "self_attn.k_proj.weight"),
            Slot::Value(i) => (i, "self_attn.v_proj.weight"),
            Slot::Qkv(i) => (i, "self_attn.qkv_proj.weight"),
            Slot::Output(i) => (i, "self_attn.o_proj.weight"),
            Slot::Gate(i) => (i, "mlp.gate_proj.weight"),
            Slot::Up(i) => (i, "mlp.up_proj.weight"),
            Slot::GateUp(i) => (i, "mlp.gate_up_proj.weight"),
            Slot::Down(i) => (i, "mlp.down_proj.weight"),
            Slot::Router(i) => (i, "mlp.gate.weight"),
            Slot::ExpertGate(i, j) => return format!("model.layers.{i}.mlp.experts.{j}.gate_proj.weight"),
            Slot::ExpertUp(i, j) => return format!("model.layers.{i}.mlp.experts.{j}.up_proj.weight"),
            Slot::ExpertDown(i, j) => return format!("model.layers.{i}.mlp.experts.{j}.down_proj.weight"),
            Slot::QueryBias(i) => (i, "self_attn.q_proj.bias"),
            Slot::KeyBias(i) => (i, "self_attn.k_proj.bias"),
            Slot::ValueBias(i) => (i, "self_attn.v_proj.bias"),
            Slot::QkvBias(i) => (i, "self_attn.qkv_proj.bias"),
            Slot::OutputBias(i) => (i, "self_attn.o_proj.bias"),
            Slot::GateBias(i) => (i, "mlp.gate_proj.bias"),
            Slot::UpBias(i) => (i, "mlp.up_proj.bias"),
            Slot::GateUpBias(i) => (i, "mlp.gate_up_proj.bias"),
            Slot::DownBias(i) => (i, "mlp.down_proj.bias"),
        };
        format!("model.layers.{layer}.{part}")
    }
}

fn norms(spec: &DecoderSpec, i: usize) -> impl Iterator<Item = Slot> {
    let pre = [Slot::AttentionNorm(i), Slot::FeedForwardNorm(i)];
    let post = [Slot::PostAttentionNorm(i), Slot::PostFeedForwardNorm(i)];
    let qk = [Slot::QueryNorm(i), Slot::KeyNorm(i)];
    let chosen = [(pre, spec.norms.has_pre()), (post, spec.norms.has_post()), (qk, spec.qk_norm.is_some())];
    chosen.into_iter().filter(|(_, present)| *present).flat_map(|(slots, _)| slots)
}

fn with_biases(weights: Vec<Slot>, biased: bool) -> impl Iterator<Item = Slot> {
    weights.into_iter().flat_map(move |slot| [Some(slot), biased.then(|| slot.bias())]).flatten()
}
