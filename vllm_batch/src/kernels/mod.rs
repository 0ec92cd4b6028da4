//! How is it computed fast?
//!
//! One file per operation, each a candle custom operation, so that the decoder is written over candle tensors and a
//! device is one more implementation of the same operation. On a CPU every operation is one piece of portable Rust over
//! arrays of [`LANES`] numbers, compiled once per instruction set and chosen at run time (`isa.rs`).
//!
//! **Reproducible to the bit.** Each number of a result is one chain of fused multiply-adds in an order that depends on
//! the row alone: not on the other rows, their number, the threads, or the width of the vector registers.
//!
//! `unsafe` lives in this folder alone: to call what was compiled for the processor found at run time, and to let
//! threads write disjoint parts of one result.
#![allow(unsafe_code)]
// Helpers must be inlined into the function that was compiled for an instruction set.
#![allow(clippy::inline_always)]

mod activation;
mod add_rows;
mod attention;
#[cfg(feature = "bench")]
pub mod bench;
mod cache;
mod dtype;
mod embedding;
mod exp;
mod isa;
mod layer_norm;
mod linear;
mod moe;
mod norm;
mod packed;
mod parallel;
mod quant;
mod registers;
#[cfg(target_arch = "aarch64")]
mod registers_neon;
mod rotary;
mod scaled;
mod spans;
mod storage;
mod tanh;
mod team;
mod tile;

pub use dtype::{KvCacheDtype, WeightDtype};

pub(crate) use dtype::CacheDtype;
pub(crate) use packed::PackedMatrix;
pub(crate) use quant::{Activations, QuantFormat};
pub(crate) use rotary::RotaryTable;

pub(crate) use activation::{Activation, gated, gelu};
pub(crate) use add_rows::AddRows;
pub(crate) use attention::{Attention, MAX_HEAD_DIM};
pub(crate) use embedding::embed;
pub(crate) use isa::Isa;
pub(crate) use layer_norm::layer_norm;
pub(crate) use linear::{LinearScratch, Operand, linear, linear_add};
pub(crate) use moe::route;
pub(crate) use norm::{QkNorm, rms_norm, rms_norm_rows};
pub(crate) use rotary::{HeadShape, KvWrite, RotateQueries};
pub(crate) use scaled::{add_scaled, scale};
pub(crate) use spans::{HeldBlocks, QuerySpan, QueryTiles};
pub(crate) use tanh::soft_cap;
pub(crate) use team::Team;

/// Numbers in a vector register of the widest instruction set; also the width of a weight panel and the number of
/// tokens in a block of the KV cache.
pub(crate) const LANES: usize = 16;

/// One register's worth of numbers.
type Lane = [f32; LANES];
