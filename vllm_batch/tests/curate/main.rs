//! Curation from outside: schemas as files, their registry, records and what is made of them.

#![allow(clippy::unwrap_used)]

mod broken;
mod builtin;
mod codes;
#[path = "../../../examples/demo_model/mod.rs"]
mod demo_model;
mod label_studio;
mod model_answers;
mod registry;
