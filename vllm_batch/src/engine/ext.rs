//! Conveniences over [`BatchEngine`], for those who have requests.

use futures::executor::block_on;
use futures::{Stream, StreamExt};

use super::BatchEngine;
use crate::error::RequestError;
use crate::output::{EmbeddingRequestOutput, RequestOutput, ScoringRequestOutput};
use crate::request::{Message, PoolingParams, Prompt, Request, SamplingParams, ScoringParams};

/// What every [`BatchEngine`] can do besides its two methods.
pub trait BatchEngineExt: BatchEngine {
    /// Answers all requests and returns the results in the order of the requests. Blocks.
    ///
    /// # Example
    /// ```no_run
    /// use vllm_batch::{BatchEngineExt, LocalEngine, Request};
    ///
    /// let engine = LocalEngine::builder("model.gguf").build()?;
    /// for result in engine.generate([Request::new("1", "The capital of France is")]) {
    ///     println!("{}", result?.outputs[0].text);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn generate(&self, requests: impl IntoIterator<Item = Request>) -> Vec<Result<RequestOutput, RequestError>> {
        let outputs: Vec<_> = requests.into_iter().map(|request| self.submit(request).output()).collect();
        block_on(futures::future::join_all(outputs))
    }

    /// Answers conversations, all with the same parameters, in their order. Blocks.
    fn chat(
        &self,
        conversations: impl IntoIterator<Item = Vec<Message>>,
        sampling_params: &SamplingParams,
    ) -> Vec<Result<RequestOutput, RequestError>> {
        self.generate(conversations.into_iter().enumerate().map(|(index, messages)| {
            Request::new(index.to_string(), messages).with_sampling_params(sampling_params.clone())
        }))
    }

    /// Makes an embedding of each input, all with the same parameters, in their order. Blocks.
    ///
    /// # Example
    /// ```no_run
    /// use vllm_batch::{BatchEngineExt, LocalEngine, PoolingParams, PoolingType};
    ///
    /// let engine = LocalEngine::builder("model.gguf").build()?;
    /// let params = PoolingParams::default().with_pooling_type(PoolingType::Mean);
    /// for result in engine.embed(["A cat sat.", "A dog ran."], &params) {
    ///     println!("{:?}", result?.embedding);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn embed(
        &self,
        inputs: impl IntoIterator<Item = impl Into<Prompt>>,
        pooling_params: &PoolingParams,
    ) -> Vec<Result<EmbeddingRequestOutput, RequestError>> {
        let embedding = |(index, input): (usize, _)| {
            let request = Request::new(index.to_string(), input).with_pooling_params(pooling_params.clone());
            self.submit(request).embedding()
        };
        let embeddings: Vec<_> = inputs.into_iter().enumerate().map(embedding).collect();
        block_on(futures::future::join_all(embeddings))
    }

    /// Scores the same labels after each prompt, in their order. Blocks.
    ///
    /// # Example
    /// ```no_run
    /// use vllm_batch::{BatchEngineExt, LocalEngine, ScoringParams};
    ///
    /// let engine = LocalEngine::builder("model.gguf").build()?;
    /// let labels = ScoringParams::new([" positive", " negative"]);
    /// for result in engine.score(["Review: Great!\nSentiment:", "Review: Meh.\nSentiment:"], &labels) {
    ///     println!("{:.3}", result?.labels[0].probability);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn score(
        &self,
        prompts: impl IntoIterator<Item = impl Into<Prompt>>,
        scoring_params: &ScoringParams,
    ) -> Vec<Result<ScoringRequestOutput, RequestError>> {
        let scores = |(index, prompt): (usize, _)| {
            let request = Request::new(index.to_string(), prompt).with_scoring_params(scoring_params.clone());
            self.submit(request).scores()
        };
        let scores: Vec<_> = prompts.into_iter().enumerate().map(scores).collect();
        block_on(futures::future::join_all(scores))
    }

    /// Answers a stream of requests, at most `window` at a time, and yields each result with its request's id as soon
    /// as it is there: memory depends on `window`, not on the number of requests. A `window` of 0 counts as 1; two to
    /// four times [`max_num_seqs`](super::EngineSpec::max_num_seqs) keeps an engine busy.
    fn run<'a>(
        &'a self,
        requests: impl Stream<Item = Request> + 'a,
        window: usize,
    ) -> impl Stream<Item = (String, Result<RequestOutput, RequestError>)> + 'a {
        requests
            .map(move |request| {
                let request_id = request.request_id.clone();
                let output = self.submit(request).output();
                async move { (request_id, output.await) }
            })
            .buffer_unordered(window.max(1))
    }
}

impl<E: BatchEngine + ?Sized> BatchEngineExt for E {}
