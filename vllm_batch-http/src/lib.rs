//! A self-hosted `OpenAI` Batch API: an axum router over `vllm_batch`, to mount or to serve.

pub mod page;
