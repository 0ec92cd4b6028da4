//! How does text become tokens, and how do tokens become text?
//!
//! A [`ChatTemplate`] renders messages to one text, and a [`Tokenizer`] turns it into ids. Nothing here knows a model's
//! weights or its files: the loader hands over bytes, or a [`GgufVocabulary`].

mod byte_level;
mod detokenize;
#[cfg(test)]
mod fixtures;
mod gguf_vocabulary;
mod pre_tokenizer;
mod template;
mod template_functions;
mod tokenizer;

pub use detokenize::IncrementalDetokenizer;
pub use gguf_vocabulary::GgufVocabulary;
pub use template::{ChatTemplate, SpecialTokens};
pub use tokenizer::Tokenizer;
