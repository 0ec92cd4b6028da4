//! Which tokens may come next?
//!
//! A [`StructuredOutput`](crate::StructuredOutput), or the tools of a request, become a [`CompiledGrammar`], once for all
//! requests that ask for the same ([`GrammarCache`]). Each sequence has a [`Constraint`] of its own: it says which tokens may come next
//! ([`TokenMask`]), which ones must ([`Constraint::forced_tokens`]), and takes the token that was chosen
//! ([`Constraint::commit`]).
//!
//! What a constraint says depends on its grammar and on its own tokens alone, never on other sequences: constraints
//! share nothing that changes, so masks may be computed in any order and by any thread.
//!
//! The work is done by the crate `llguidance`. In front of it stands a check of JSON Schemas that names the place of
//! what is wrong or not supported: a schema that is accepted is kept to, in full.

mod cache;
mod calls;
#[cfg(test)]
mod calls_tests;
mod compile;
mod constraint;
mod disjoint;
mod formats;
mod pattern;
mod refs;
mod schema;
#[cfg(test)]
mod tests;
mod vocabulary;
mod watch;

pub use cache::{CompiledGrammar, GrammarCache};
pub use constraint::{Commit, Constraint, TokenMask};
pub use vocabulary::Vocabulary;
