//! A bidirectional encoder: each token sees the whole of its text, which is computed at once.

use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::input::ModelInput;
use super::slots::{EncoderSlot, Slot};
use super::weights::WeightLoader;
use super::workspace::Workspace;
use crate::error::LoadError;
use crate::kernels::{
    Attention, HeadShape, Isa, KvWrite, LANES, MAX_HEAD_DIM, PackedMatrix, QuerySpan, QueryTiles, RotaryTable,
    add_scaled, embed, gelu, layer_norm, linear, linear_add,
};

/// The architecture of BERT (Devlin and others, <https://arxiv.org/abs/1810.04805>): learned positions, biases everywhere,
/// and blocks that normalise their residual stream after attention and after a feed-forward layer with GELU.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EncoderSpec {
    /// Number of tokens in the vocabulary.
    pub(crate) vocab_size: usize,
    /// Width of the residual stream.
    pub(crate) hidden_size: usize,
    /// Number of blocks.
    pub(crate) num_hidden_layers: usize,
    /// Heads in each block; divides `hidden_size`.
    pub(crate) num_attention_heads: usize,
    /// Inner width of the feed-forward layers.
    pub(crate) intermediate_size: usize,
    /// Kinds of tokens; a text's are all of the first kind.
    pub(crate) type_vocab_size: usize,
    /// Rows of the table of positions.
    pub(crate) max_position_embeddings: usize,
    /// The row of a text's first token.
    pub(crate) position_offset: usize,
    /// Added to the variance in every normalisation.
    pub(crate) layer_norm_eps: f32,
    /// What the names of tensors begin with where the file holds a model with a head.
    pub(crate) prefix: &'static str,
}

impl EncoderSpec {
    /// The most tokens of a text.
    pub(crate) fn max_len(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.position_offset)
    }

    /// Checks that the dimensions fit each other.
    ///
    /// # Errors
    /// [`LoadError::BrokenConfig`] or [`LoadError::UnsupportedConfig`] for the first that does not.
    pub(super) fn validate(&self) -> std::result::Result<(), LoadError> {
        let broken = |key: &str, message: String| Err(LoadError::BrokenConfig { key: key.to_owned(), message });
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("type_vocab_size", self.type_vocab_size),
            ("max_position_embeddings", self.max_len()),
        ];
        if let Some((key, size)) = sizes.into_iter().find(|(_, size)| !(1..=MAX_DIMENSION).contains(size)) {
            return broken(key, format!("{size} is not between 1 and {MAX_DIMENSION}"));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return broken("num_attention_heads", format!("it does not divide {}", self.hidden_size));
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps >= 0.0) {
            return broken("layer_norm_eps", format!("{} is not a number from 0 up", self.layer_norm_eps));
        }
        let head_dim = self.hidden_size / self.num_attention_heads;
        if head_dim > MAX_HEAD_DIM {
            let message = format!("heads of {head_dim} numbers, more than {MAX_HEAD_DIM}");
            return Err(LoadError::UnsupportedConfig { key: "num_attention_heads".to_owned(), message });
        }
        Ok(())
    }

    fn heads(&self) -> HeadShape {
        let num_heads = self.num_attention_heads;
        HeadShape { num_heads, num_kv_heads: num_heads, head_dim: self.hidden_size / num_heads }
    }

    /// The places that tensors fill.
    fn slots(&self) -> Vec<Slot> {
        let tables = [WORDS, POSITIONS, TYPES].map(Slot::Encoder);
        let parts = [QUERY, KEY, VALUE, OUTPUT, ATTENTION_NORM, UP, DOWN, FINAL_NORM];
        let in_layers = (0..self.num_hidden_layers).flat_map(|i| parts.map(|part| Slot::Encoder(part.in_layer(i))));
        let with_bias = std::iter::once(Slot::Encoder(EMBEDDING_NORM)).chain(in_layers);
        tables.into_iter().chain(with_bias.flat_map(|slot| [slot, slot.bias()])).collect()
    }
}

/// Far above any model, and far below what overflows when dimensions are multiplied.
const MAX_DIMENSION: usize = 1 << 24;

const WORDS: EncoderSlot = EncoderSlot::new("embeddings.word_embeddings");
const POSITIONS: EncoderSlot = EncoderSlot::new("embeddings.position_embeddings");
const TYPES: EncoderSlot = EncoderSlot::new("embeddings.token_type_embeddings");
const EMBEDDING_NORM: EncoderSlot = EncoderSlot::new("embeddings.LayerNorm");
const QUERY: EncoderSlot = EncoderSlot::new("attention.self.query");
const KEY: EncoderSlot = EncoderSlot::new("attention.self.key");
const VALUE: EncoderSlot = EncoderSlot::new("attention.self.value");
const OUTPUT: EncoderSlot = EncoderSlot::new("attention.output.dense");
const ATTENTION_NORM: EncoderSlot = EncoderSlot::new("attention.output.LayerNorm");
const UP: EncoderSlot = EncoderSlot::new("intermediate.dense");
const DOWN: EncoderSlot = EncoderSlot::new("output.dense");
const FINAL_NORM: EncoderSlot = EncoderSlot::new("output.LayerNorm");

/// The weights of an encoder. Immutable.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub(super) spec: EncoderSpec,
    words: PackedMatrix,
    positions: PackedMatrix,
    /// One row for each kind of token.
    types: PackedMatrix,
    embedding_norm: Norm,
    layers: Vec<EncoderLayer>,
}

#[derive(Debug)]
struct EncoderLayer {
    /// Query, key and value projections, one below the other.
    qkv: PackedMatrix,
    output: PackedMatrix,
    attention_norm: Norm,
    up: PackedMatrix,
    down: PackedMatrix,
    final_norm: Norm,
}

/// Weight and bias of a normalisation.
#[derive(Debug)]
struct Norm(Tensor, Tensor);

impl Encoder {
    /// Reads and packs the weights, layers in parallel on the current thread pool.
    ///
    /// # Errors
    /// If a tensor is missing, has a wrong shape, or cannot be read.
    pub(super) fn load(spec: EncoderSpec, mut loader: WeightLoader<'_>) -> std::result::Result<Self, LoadError> {
        if loader.source.shape(&format!("{}{}", spec.prefix, WORDS.name())).is_some() {
            loader.names.prefix = spec.prefix;
        }
        loader.check_all_used(spec.slots())?;
        let hidden = spec.hidden_size;
        let table = |slot, rows| loader.matrix(&[(Slot::Encoder(slot), rows)], hidden, false);
        let layers = (0..spec.num_hidden_layers).into_par_iter().map(|i| EncoderLayer::load(&spec, &loader, i));
        Ok(Self {
            words: table(WORDS, spec.vocab_size)?,
            positions: table(POSITIONS, spec.max_position_embeddings)?,
            types: table(TYPES, spec.type_vocab_size)?,
            embedding_norm: Norm::load(&loader, EMBEDDING_NORM, hidden)?,
            layers: layers.collect::<std::result::Result<_, _>>()?,
            spec,
        })
    }

    /// The last hidden states of the tokens of `input` that are wanted: shape `[rows, hidden_size]`. A text's numbers do
    /// not depend on the others.
    ///
    /// # Errors
    /// If a text does not begin with its first token, or is too long: a mistake of the caller.
    pub(crate) fn forward(&self, input: &ModelInput, work: &mut Workspace) -> Result<Tensor> {
        let texts = Texts::new(&self.spec, input)?;
        let x = self.embedded(input, work)?;
        self.normalise(&x, &self.embedding_norm)?;
        for layer in &self.layers {
            self.attention(layer, &x, &texts, work)?;
            self.feed_forward(layer, &x, work)?;
        }
        x.index_select(&Tensor::new(input.logit_rows.as_slice(), &Device::Cpu)?, 0)
    }

    /// Word, kind and position of each token.
    fn embedded(&self, input: &ModelInput, work: &mut Workspace) -> Result<Tensor> {
        let (tokens, hidden, offset) = (input.num_tokens(), self.spec.hidden_size, self.spec.position_offset as u32);
        let (x, part) = (work.hidden.rows(tokens, hidden)?, work.products.delta.rows(tokens, hidden)?);
        embed(&input.token_ids, &self.words, &x)?;
        embed(&vec![0; tokens], &self.types, &part)?;
        add_scaled(&x, &part, 1.0)?;
        let positions: Vec<u32> = input.positions.iter().map(|position| position + offset).collect();
        embed(&positions, &self.positions, &part)?;
        add_scaled(&x, &part, 1.0)?;
        Ok(x)
    }

    fn attention(&self, layer: &EncoderLayer, x: &Tensor, texts: &Texts<'_>, work: &mut Workspace) -> Result<()> {
        let tokens = x.dims2()?.0;
        let qkv = work.qkv.rows(tokens, layer.qkv.rows())?;
        linear(x, &layer.qkv, &qkv, &mut work.products.linear)?;
        let attended = work.attended.rows(tokens, layer.output.depth())?;
        let keys_and_values = work.keys_and_values.rows(texts.num_blocks, texts.heads.block_len())?;
        texts.attend(&qkv, &keys_and_values, &attended)?;
        linear_add(&attended, &layer.output, x, &mut work.products.linear)?;
        self.normalise(x, &layer.attention_norm)
    }

    fn feed_forward(&self, layer: &EncoderLayer, x: &Tensor, work: &mut Workspace) -> Result<()> {
        let inner = work.gated.numbers.rows(x.dims2()?.0, layer.up.rows())?;
        linear(x, &layer.up, &inner, &mut work.products.linear)?;
        gelu(&inner)?;
        linear_add(&inner, &layer.down, x, &mut work.products.linear)?;
        self.normalise(x, &layer.final_norm)
    }

    fn normalise(&self, x: &Tensor, norm: &Norm) -> Result<()> {
        layer_norm(x, &norm.0, &norm.1, self.spec.layer_norm_eps)
    }
}

impl EncoderLayer {
    fn load(spec: &EncoderSpec, loader: &WeightLoader<'_>, i: usize) -> std::result::Result<Self, LoadError> {
        let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
        let slot = |part: EncoderSlot| Slot::Encoder(part.in_layer(i));
        Ok(Self {
            qkv: loader.matrix(&[QUERY, KEY, VALUE].map(|part| (slot(part), hidden)), hidden, true)?,
            output: loader.matrix(&[(slot(OUTPUT), hidden)], hidden, true)?,
            attention_norm: Norm::load(loader, ATTENTION_NORM.in_layer(i), hidden)?,
            up: loader.matrix(&[(slot(UP), inner)], hidden, true)?,
            down: loader.matrix(&[(slot(DOWN), hidden)], inner, true)?,
            final_norm: Norm::load(loader, FINAL_NORM.in_layer(i), hidden)?,
        })
    }
}

impl Norm {
    fn load(loader: &WeightLoader<'_>, slot: EncoderSlot, len: usize) -> std::result::Result<Self, LoadError> {
        let slot = Slot::Encoder(slot);
        Ok(Self(loader.norm(slot, len)?, loader.norm(slot.bias(), len)?))
    }
}

/// Where the texts of a step lie. Their keys and values are those of one layer at a time: nothing of them outlives the step.
struct Texts<'a> {
    positions: &'a [u32],
    /// Each text with blocks of its own.
    spans: Vec<QuerySpan>,
    tiles: QueryTiles,
    /// Of each token, in its block.
    slots: Vec<u32>,
    num_blocks: usize,
    heads: HeadShape,
    /// Turns nothing.
    table: RotaryTable,
}

impl<'a> Texts<'a> {
    fn new(spec: &EncoderSpec, input: &'a ModelInput) -> Result<Self> {
        let (mut spans, mut slots, mut num_blocks) = (Vec::new(), Vec::new(), 0);
        for span in &input.spans {
            if span.position != 0 || span.query_len > spec.max_len() {
                bail!(
                    "encoder: {} tokens from {} of a text of at most {}",
                    span.query_len,
                    span.position,
                    spec.max_len()
                );
            }
            let first = num_blocks;
            num_blocks += span.query_len.div_ceil(LANES) as u32;
            slots.extend((0..span.query_len as u32).map(|token| first * LANES as u32 + token));
            spans.push(QuerySpan { block_table: (first..num_blocks).collect::<Vec<_>>().into(), ..span.clone() });
        }
        let heads = spec.heads();
        let (tiles, table) = (QueryTiles::new(&spans, heads), RotaryTable::new(&[], 1.0, spec.max_len()));
        Ok(Self { positions: &input.positions, spans, tiles, slots, num_blocks: num_blocks as usize, heads, table })
    }

    /// Each token over all tokens of its text. Nothing turns the queries.
    fn attend(&self, qkv: &Tensor, keys_and_values: &Tensor, attended: &Tensor) -> Result<()> {
        let Self { positions, slots, heads, table, .. } = self;
        keys_and_values.inplace_op2(qkv, &KvWrite { positions, slots, heads: *heads, table })?;
        let attention = Attention {
            spans: &self.spans,
            tiles: &self.tiles,
            heads: *heads,
            scale: 1.0 / (heads.head_dim as f32).sqrt(),
            soft_cap: None,
            window: None,
            causal: false,
            isa: Isa::detect(),
        };
        attended.inplace_op3(qkv, keys_and_values, &attention)
    }
}
