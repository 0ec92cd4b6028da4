//! How do people review, on a Label Studio server?
//!
//! [`LabelStudio`] is the client. What is the same for all requests (`client`, `token`), what can go wrong (`error`,
//! `refusal`), and then one file for each thing that is asked: `projects`, `tasks`, `import`, `export`, `webhooks`.
//!
//! # Invariants
//! * A GET is tried again; anything else is sent again only where the server cannot have done it: a refused token, or after
//!   a look at what it did.
//! * Tasks are known by `data.vb_key`. However an import ends and is begun again, each key is there once.

mod client;
mod cursor;
mod error;
mod export;
mod import;
mod projects;
mod refusal;
mod tasks;
mod token;
mod webhooks;

pub use client::{LabelStudio, LabelStudioBuilder};
pub use error::LabelStudioError;
pub use export::ExportFilter;
pub use import::{ImportOptions, ImportReport, RejectedTask};
pub use projects::{Project, ProjectSpec};
pub use tasks::{Page, Reconciliation};
pub use webhooks::{WebhookError, WebhookEvent, WebhookReceiver};
