//! The model's tokenizer, with the names of Hugging Face's.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::prelude::*;

use crate::errors::raise_request;

/// Turns text into token ids and back.
#[pyclass(frozen, module = "vllm_batch._native")]
pub(crate) struct Tokenizer(pub(crate) Arc<vllm_batch::text::Tokenizer>);

#[pymethods]
impl Tokenizer {
    /// Number of tokens.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn __len__(&self) -> usize {
        self.0.vocab_size()
    }

    /// The token ids of a text. Special tokens that are written in it become their ids; `add_special_tokens` adds those that
    /// belong around every text.
    #[pyo3(signature = (text, add_special_tokens = true))]
    fn encode(&self, py: Python<'_>, text: &str, add_special_tokens: bool) -> PyResult<Vec<u32>> {
        let ids = py.detach(|| self.0.encode(text, add_special_tokens));
        ids.map_err(|error| raise_request(py, &error))
    }

    /// The text of token ids.
    #[pyo3(signature = (token_ids, skip_special_tokens = false))]
    // It is made of a Python list.
    #[allow(clippy::needless_pass_by_value)]
    fn decode(&self, py: Python<'_>, token_ids: Vec<u32>, skip_special_tokens: bool) -> PyResult<String> {
        let text = py.detach(|| self.0.decode(&token_ids, skip_special_tokens));
        text.map_err(|error| raise_request(py, &error))
    }

    /// The id of a token, or `None`.
    fn convert_tokens_to_ids(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }

    /// The token of an id, or `None`.
    fn convert_ids_to_tokens(&self, token_id: u32) -> Option<String> {
        self.0.id_to_token(token_id)
    }

    /// All tokens, with their ids.
    fn get_vocab(&self, py: Python<'_>) -> HashMap<String, u32> {
        let token = |id| self.0.id_to_token(id).map(|token| (token, id));
        py.detach(|| (0..self.0.vocab_size() as u32).filter_map(token).collect())
    }
}
