//! Curation from outside: schemas as files, their registry, records and what is made of them.

mod broken;
mod builtin;
mod codes;
mod registry;
