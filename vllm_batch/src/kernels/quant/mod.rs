//! How is a quantised matrix multiplied without widening it?
//!
//! Every quantised GGUF format comes down to one form: a weight is `d · q + m`, or `d · (q − z)`, where `q` is an
//! unsigned code of 4 or 8 bits and `d` and `m` belong to a group of 32 or 16 neighbours in a row. `format.rs` says what
//! each format is in that form, `unpack.rs` reads a file's blocks into it without any loss, `matrix.rs` stores it in the
//! order in which it is read, and `quantize.rs` makes blocks of plain numbers.
//!
//! What is multiplied is quantised as well, each row on its own in blocks of 32 (`activations.rs`), so that the products
//! within a group are sums of integers, which are exact in any order. `tile.rs` adds them up as floats, group after
//! group, in one order: the bits depend neither on the instruction set (`dot.rs`), nor on the shape of a tile, nor on the
//! other rows.

mod activations;
#[cfg(target_arch = "x86_64")]
mod activations_x86;
mod dot;
#[cfg(target_arch = "aarch64")]
mod dot_neon;
#[cfg(target_arch = "x86_64")]
mod dot_x86;
#[cfg(test)]
mod fixtures;
mod format;
mod matrix;
mod quantize;
mod tile;
mod unpack;

pub(crate) use activations::Activations;
pub(crate) use format::QuantFormat;

pub(super) use activations::{BLOCK, CHUNK_ROWS, QuantRows};
pub(super) use matrix::QuantMatrix;
pub(super) use quantize::{quantize_q4_0, quantize_q8_0};
pub(super) use tile::multiply_group;
#[cfg(feature = "bench")]
pub(super) use tile::sum_in_registers;
