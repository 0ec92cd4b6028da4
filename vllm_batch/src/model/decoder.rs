//! The network: packed weights, and one forward pass over any mix of sequences.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::cache::{KvCache, heads};
use super::input::ModelInput;
use super::layer::{Experts, FeedForward, Layer, Network};
use super::lora::LoraAdapter;
use super::projection::{AdapterRows, Projection};
use super::slots::{Slot, TensorNames};
use super::spec::{DecoderSpec, LayerSpec};
use super::weights::WeightLoader;
use super::workspace::{Buffer, OperandBuffer, ProductWorkspace, Workspace};
use crate::error::LoadError;
use crate::kernels::{
    Attention, Isa, KvWrite, Operand, PackedMatrix, QkNorm, QueryTiles, RotaryTable, RotateQueries, add_scaled, embed,
    gated, linear, rms_norm, rms_norm_rows, route, scale, soft_cap,
};

/// The weights of a model. Immutable: what belongs to sequences lives in the [`KvCache`].
#[derive(Debug)]
pub(crate) struct Decoder {
    pub(super) spec: DecoderSpec,
    embedding: PackedMatrix,
    layers: Vec<Layer>,
    final_norm: Tensor,
    /// The head, unless the embedding is the head.
    head: Option<PackedMatrix>,
    /// One for each rotary embedding of the spec, then one that turns nothing.
    rotary: Vec<RotaryTable>,
}

impl Decoder {
    /// Reads and packs the weights, layers in parallel on the current thread pool. Positions from `max_model_len` on
    /// cannot be computed.
    ///
    /// # Errors
    /// If a tensor is missing, has a wrong shape, or cannot be read.
    pub(super) fn load(
        spec: DecoderSpec,
        loader: &WeightLoader<'_>,
        max_model_len: usize,
    ) -> std::result::Result<Self, LoadError> {
        loader.check_all_used(loader.names.slots(&spec))?;
        let (vocab, hidden) = (spec.vocab_size, spec.hidden_size);
        let embedding = loader.matrix(&[(Slot::Embedding, vocab)], hidden, false)?;
        let head =
            if spec.tie_word_embeddings { None } else { Some(loader.matrix(&[(Slot::Head, vocab)], hidden, false)?) };
        let final_norm = loader.norm(Slot::FinalNorm, hidden)?;
        let layers = (0..spec.layers.len()).into_par_iter().map(|i| Layer::load(&spec, loader, i));
        let layers = layers.collect::<std::result::Result<_, _>>()?;
        let tables = spec.ropes.iter().map(|rope| {
            let (inv_freq, magnitude) = rope.frequencies(max_model_len);
            RotaryTable::new(&inv_freq, magnitude, max_model_len)
        });
        let rotary = tables.chain([RotaryTable::new(&[], 1.0, max_model_len)]).collect();
        Ok(Self { spec, embedding, layers, final_norm, head, rotary })
    }

    /// Takes an adapter for the sequences that ask for it. It has the next number, from 0 on.
    ///
    /// # Errors
    /// [`LoadError::UnsupportedConfig`] if it changes anything but the projections of attention and of dense feed-forward
    /// layers; any error of reading it.
    pub(super) fn add_adapter(
        &mut self,
        adapter: &LoraAdapter,
        names: TensorNames,
    ) -> std::result::Result<(), LoadError> {
        let mut count = 0;
        for (i, layer) in self.layers.iter_mut().enumerate() {
            count += layer.add_adapter((&self.spec, names, i), adapter)?;
        }
        if count == adapter.num_changes() {
            return Ok(());
        }
        let others = adapter.num_changes() - count;
        let message = format!("{others} of its matrices are of embeddings, heads or experts: merge it with lora_path");
        Err(LoadError::UnsupportedConfig { key: "target_modules".to_owned(), message })
    }

    /// Computes the input's tokens, writes their keys and values into `cache`, and returns the last hidden states of the
    /// tokens of `input` whose [`logits`](Self::logits) are wanted: shape `[rows, hidden_size]`, in the workspace, where
    /// the next call overwrites them.
    ///
    /// # Errors
    /// If the input does not fit the cache: a mistake of the caller.
    pub(crate) fn forward(&self, input: &ModelInput, cache: &mut KvCache, work: &mut Workspace) -> Result<Tensor> {
        let x = work.hidden.rows(input.num_tokens(), self.spec.hidden_size)?;
        embed(&input.token_ids, &self.embedding, &x)?;
        scale(&x, self.spec.embedding_multiplier)?;
        let tiles = QueryTiles::new(&input.spans, heads(&self.spec));
        for (layer, kv) in self.layers.iter().zip(&mut cache.layers) {
            self.attention((layer, kv), &x, (input, &tiles), work)?;
            self.feed_forward(layer, &x, &input.adapters, work)?;
        }
        let last = work.last.rows(input.logit_rows.len(), self.spec.hidden_size)?;
        rms_norm_rows(&x, &input.logit_rows, &self.final_norm, self.spec.rms_norm_eps, &last)?;
        Ok(last)
    }

    /// The logits that belong to hidden states, of shape `[rows, vocab_size]`, in the workspace, where the next call
    /// overwrites them. A row's bits do not depend on the others.
    ///
    /// # Errors
    /// If the hidden states are of another model.
    pub(crate) fn logits(&self, hidden: &Tensor, work: &mut Workspace) -> Result<Tensor> {
        let logits = work.logits.rows(hidden.dims2()?.0, self.spec.vocab_size)?;
        linear(hidden, self.head.as_ref().unwrap_or(&self.embedding), &logits, &mut work.products.linear)?;
        scale(&logits, 1.0 / self.spec.logits_divisor)?;
        if let Some(cap) = self.spec.logit_soft_cap {
            soft_cap(&logits, cap)?;
        }
        Ok(logits)
    }

    fn attention(
        &self,
        (layer, kv): (&Layer, &Tensor),
        x: &Tensor,
        (input, tiles): (&ModelInput, &QueryTiles),
        work: &mut Workspace,
    ) -> Result<()> {
        let qkv = work.qkv.rows(input.num_tokens(), layer.qkv.rows())?;
        let norm = (layer.attention_norm.as_ref(), layer.qkv.is_quantized());
        let normed = self.normed(x, norm, &mut work.normed)?;
        layer.qkv.apply(&normed, &input.adapters, &qkv, &mut work.products)?;
        if let Some((queries, keys)) = &layer.qk_norm {
            let op = QkNorm { heads: heads(&self.spec), eps: self.spec.rms_norm_eps, isa: Isa::detect() };
            qkv.inplace_op3(queries, keys, &op)?;
        }
        let attended = work.attended.rows(input.num_tokens(), layer.output.depth())?;
        self.attend((&qkv, kv), (input, tiles), &layer.spec, &attended)?;
        let output = (&layer.output, &input.adapters, layer.post_attention_norm.as_ref());
        self.project(x, &(&attended).into(), output, &mut work.products)
    }

    /// Writes keys and values first, for all sequences: a block that one sequence fills in this step can be read by
    /// another one in the same step.
    fn attend(
        &self,
        (qkv, kv): (&Tensor, &Tensor),
        (input, tiles): (&ModelInput, &QueryTiles),
        layer: &LayerSpec,
        attended: &Tensor,
    ) -> Result<()> {
        let heads = heads(&self.spec);
        let (positions, table) = (&input.positions, &self.rotary[layer.rope.unwrap_or(self.spec.ropes.len())]);
        kv.inplace_op2(qkv, &KvWrite { positions, slots: &input.slots, heads, table })?;
        qkv.inplace_op1(&RotateQueries { positions, heads, table })?;
        let attention = Attention {
            spans: &input.spans,
            tiles,
            heads,
            scale: self.spec.attention_scale,
            soft_cap: self.spec.attention_soft_cap,
            window: layer.window,
            causal: true,
            isa: Isa::detect(),
        };
        attended.inplace_op3(qkv, kv, &attention)
    }

    fn feed_forward(&self, layer: &Layer, x: &Tensor, adapters: &AdapterRows, work: &mut Workspace) -> Result<()> {
        let post_norm = layer.post_feed_forward_norm.as_ref();
        let norm = (layer.feed_forward_norm.as_ref(), layer.feed_forward.is_quantized());
        let normed = self.normed(x, norm, &mut work.normed)?;
        match &layer.feed_forward {
            FeedForward::Dense(network) => {
                let room = (&mut work.gate_up, &mut work.gated, &mut work.products);
                let gated = self.inner(network, &normed, adapters, room)?;
                self.project(x, &gated, (&network.down, adapters, post_norm), &mut work.products)
            }
            FeedForward::Experts(experts) => {
                let delta = self.experts(experts, normed.numbers())?;
                self.join(x, &delta, post_norm, &mut work.products)
            }
        }
    }

    /// What the first layer of a network makes of `x`.
    fn inner<'w>(
        &self,
        network: &Network,
        x: &Operand<'_>,
        adapters: &AdapterRows,
        (gate_up, gated_rows, products): (&mut Buffer, &'w mut OperandBuffer, &mut ProductWorkspace),
    ) -> Result<Operand<'w>> {
        let tokens = x.numbers().dims2()?.0;
        let gate_up = gate_up.rows(tokens, network.gate_up.rows())?;
        network.gate_up.apply(x, adapters, &gate_up, products)?;
        let (rows, quantized) = gated_rows.rows((tokens, network.down.depth()), network.down.is_quantized())?;
        gated(&gate_up, self.spec.activation, rows, quantized)
    }

    /// Each expert computes the rows that chose it, experts in parallel, each in memory of its own.
    fn experts(&self, Experts { spec, router, networks }: &Experts, x: &Tensor) -> Result<Tensor> {
        let mut work = ProductWorkspace::default();
        let scores = work.delta.rows(x.dims2()?.0, router.rows())?;
        linear(x, router, &scores, &mut work.linear)?;
        let routing = route(&scores, spec.num_experts_per_tok, spec.norm_topk_prob)?;
        let unchanged = AdapterRows::default();
        let chosen = networks.par_iter().zip(&routing.tokens).filter(|(_, tokens)| !tokens.is_empty());
        let results = chosen.map(|(network, tokens)| {
            let Workspace { mut gate_up, mut gated, mut products, .. } = Workspace::default();
            let rows = x.index_select(&Tensor::new(tokens.as_slice(), &Device::Cpu)?, 0)?;
            let work = (&mut gate_up, &mut gated, &mut products);
            let inner = self.inner(network, &(&rows).into(), &unchanged, work)?;
            let result = products.delta.rows(tokens.len(), network.down.rows())?;
            network.down.apply(&inner, &unchanged, &result, &mut products).map(|()| result)
        });
        let results = results.collect::<Result<Vec<_>>>()?;
        if results.is_empty() {
            return x.zeros_like();
        }
        routing.combine(&Tensor::cat(&results, 0)?)
    }

    /// `x` as a norm makes it, and quantised if that is wanted. Without a norm, as it is.
    fn normed<'w>(
        &self,
        x: &Tensor,
        (weight, is_quantized): (Option<&Tensor>, bool),
        buffer: &'w mut OperandBuffer,
    ) -> Result<Operand<'w>> {
        let Some(weight) = weight else { return Ok(x.into()) };
        let (rows, quantized) = buffer.rows(x.dims2()?, is_quantized)?;
        rms_norm(x, (weight, self.spec.rms_norm_eps), rows, quantized)
    }

    /// Adds `inner · matrixᵀ` to the residual stream `x`, in one operation where nothing is done to it before.
    fn project(
        &self,
        x: &Tensor,
        inner: &Operand<'_>,
        (matrix, adapters, post_norm): (&Projection, &AdapterRows, Option<&Tensor>),
        work: &mut ProductWorkspace,
    ) -> Result<()> {
        if post_norm.is_none() && self.spec.residual_multiplier == 1.0 {
            return matrix.apply_add(inner, adapters, x, work);
        }
        let delta = work.delta.rows(inner.numbers().dims2()?.0, matrix.rows())?;
        matrix.apply(inner, adapters, &delta, work)?;
        self.join(x, &delta, post_norm, work)
    }

    /// Adds what a layer computed to the residual stream `x`.
    fn join(&self, x: &Tensor, delta: &Tensor, post_norm: Option<&Tensor>, work: &mut ProductWorkspace) -> Result<()> {
        let delta = self.normed(delta, (post_norm, false), &mut work.normed_delta)?;
        add_scaled(x, delta.numbers(), self.spec.residual_multiplier)
    }
}
