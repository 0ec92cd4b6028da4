//! What is the network?
//!
//! An architecture is data: a [`DecoderSpec`] says what one `Decoder` computes, an [`EncoderSpec`] what an `Encoder` does, a file in `families/` maps a model's
//! own configuration to a spec and its tensor names to the decoder's slots, and `weights.rs` reads the tensors from
//! safetensors or GGUF. Anything in a configuration that would change the results and is not implemented is an error.

mod cache;
mod config;
mod decoder;
mod encoder;
mod families;
mod files;
mod gguf;
#[cfg(feature = "hub")]
mod hub;
mod input;
mod layer;
mod lora;
mod network;
mod projection;
mod rope;
mod safetensors;
mod sentence;
mod slots;
mod source;
mod spec;
mod weights;
mod workspace;

pub use source::{HubModel, ModelSource};

pub(crate) use cache::{BLOCK_SIZE, KvCache};
#[cfg(test)]
pub(crate) use decoder::Decoder;
pub(crate) use files::ModelFiles;
pub(crate) use input::{HeldBlocks, ModelInput};
pub(crate) use network::{ModelSpec, Network};
pub(crate) use workspace::Workspace;

#[cfg(test)]
mod tests;
