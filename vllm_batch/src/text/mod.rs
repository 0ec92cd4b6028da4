//! How does text become tokens, and how do tokens become text?
//!
//! Nothing here knows a model's weights or its files: the loader hands over bytes, or a [`GgufVocabulary`].

mod byte_level;
mod detokenize;
#[cfg(test)]
mod fixtures;
mod gguf_vocabulary;
mod pre_tokenizer;
mod tokenizer;

pub use detokenize::IncrementalDetokenizer;
pub use gguf_vocabulary::GgufVocabulary;
pub use tokenizer::Tokenizer;
