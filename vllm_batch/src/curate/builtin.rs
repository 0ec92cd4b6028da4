//! The schemas that come with the library.

/// Their documents.
pub(super) const SCHEMAS: [&str; 6] = [
    include_str!("builtin/candidate_evaluation.json"),
    include_str!("builtin/cartographer.json"),
    include_str!("builtin/cv_parsing.json"),
    include_str!("builtin/email_evaluation.json"),
    include_str!("builtin/quil_email.json"),
    include_str!("builtin/report_evaluation.json"),
];
