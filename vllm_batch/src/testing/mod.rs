//! How does one test code that uses an engine?
//!
//! With [`ScriptedEngine`]: a [`BatchEngine`](crate::BatchEngine) that answers from a function or a table, at once or
//! when it is told to, and remembers what it was asked. Public under the feature `testing`, so that embedders can use it
//! too.

mod pooled;
mod scripted;

pub use scripted::{ScriptedEngine, ScriptedStats};
