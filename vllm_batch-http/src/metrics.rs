//! What is measured of requests, and where is it shown?
//!
//! Everything is recorded through the `metrics` facade, as in the core: whoever runs the service installs a recorder, or none.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::error::ApiError;
use crate::state::AppState;

/// Requests, by `method`, `route` and `status`.
pub const HTTP_REQUESTS: &str = "vllm_batch_http_requests_total";
/// Seconds until the head of an answer is there, by `route`; a stream goes on after that.
pub const HTTP_SECONDS: &str = "vllm_batch_http_request_seconds";
/// Requests of the live endpoints that are under way.
pub const HTTP_LIVE: &str = "vllm_batch_http_live_requests";

/// From a page of a list to a long answer.
const BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0];

/// Installs the recorder of this process, whose measurements [`ServiceConfig::prometheus`](crate::ServiceConfig) shows at
/// `/metrics`. For programs of their own: one that has a recorder already gives the handle of that one. Whoever installs it
/// calls [`run_upkeep`](PrometheusHandle::run_upkeep) at intervals: samples take memory until then.
///
/// # Errors
/// If there is one already.
pub fn install_prometheus() -> Result<PrometheusHandle, BuildError> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?;
    let handle = builder.install_recorder()?;
    metrics::describe_counter!(HTTP_REQUESTS, "Requests, by method, route and status");
    metrics::describe_histogram!(HTTP_SECONDS, metrics::Unit::Seconds, "Time to the head of an answer, by route");
    metrics::describe_gauge!(HTTP_LIVE, "Requests of the live endpoints that are under way");
    Ok(handle)
}

/// Notes a request that has been answered.
pub(crate) fn record(method: &'static str, route: String, status: StatusCode, elapsed: Duration) {
    metrics::histogram!(HTTP_SECONDS, "route" => route.clone()).record(elapsed);
    let status = status.as_str().to_owned();
    metrics::counter!(HTTP_REQUESTS, "method" => method, "route" => route, "status" => status).increment(1);
}

/// Counts a live request as long as it is there.
#[derive(Debug)]
pub(crate) struct LiveGauge(());

impl LiveGauge {
    pub(crate) fn up() -> Self {
        metrics::gauge!(HTTP_LIVE).increment(1.0);
        Self(())
    }
}

impl Drop for LiveGauge {
    fn drop(&mut self) {
        metrics::gauge!(HTTP_LIVE).decrement(1.0);
    }
}

/// `GET /metrics`, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "service", operation_id = "metrics", summary = "Measurements for Prometheus",
    responses((status = 200, description = "Measurements", body = String, content_type = "text/plain")))]
pub(crate) async fn show(State(state): State<AppState>) -> Response {
    let Some(handle) = state.prometheus() else {
        return ApiError::new(StatusCode::NOT_FOUND, "no_metrics", "This server has no recorder of metrics.")
            .into_response();
    };
    handle.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()).into_response()
}
