//! Which request is this, how long did it take, and how did it end?

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::request_id::{MakeRequestId, MakeRequestUuid};
use tracing::{Instrument, field};

use crate::metrics;

/// The header that names a request, in the question and in the answer.
pub(crate) const REQUEST_ID: &str = "x-request-id";
/// The most characters of a name that callers choose.
const MAX_LEN: usize = 128;

/// What a request is called, in the log and in its answer.
#[derive(Debug, Clone)]
pub(crate) struct RequestName(HeaderValue);

impl RequestName {
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The caller's own, if it is harmless in logs, or a new one.
    fn of(request: &Request) -> Self {
        let is_harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
        let given = request.headers().get(REQUEST_ID).filter(|given| {
            let bytes = given.as_bytes();
            (1..=MAX_LEN).contains(&bytes.len()) && bytes.iter().all(is_harmless)
        });
        match given.cloned().or_else(|| {
            MakeRequestUuid.make_request_id(request).map(tower_http::request_id::RequestId::into_header_value)
        }) {
            Some(name) => Self(name),
            None => Self(HeaderValue::from_static("unnamed")),
        }
    }
}

/// Names the request, notes it in the log and in the metrics, and lets nobody print its key.
pub(crate) async fn observe(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let name = RequestName::of(&request);
    hide_key(request.headers_mut());
    request.extensions_mut().insert(name.clone());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", id = name.as_str(), %method, route, owner = field::Empty);
    async move {
        let mut response = next.run(request).await;
        let (status, elapsed) = (response.status(), started.elapsed());
        tracing::info!(status = status.as_u16(), seconds = elapsed.as_secs_f64(), "answered");
        metrics::record(method_label(&method), route, status, elapsed);
        response.headers_mut().insert(REQUEST_ID, name.0);
        response
    }
    .instrument(span)
    .await
}

fn hide_key(headers: &mut HeaderMap) {
    if let Some(key) = headers.get_mut(header::AUTHORIZATION) {
        key.set_sensitive(true);
    }
}

/// Methods that clients make up are one, so that they cannot fill the memory with counters.
fn method_label(method: &Method) -> &'static str {
    [Method::GET, Method::POST, Method::DELETE, Method::HEAD, Method::OPTIONS, Method::PUT, Method::PATCH]
        .iter()
        .position(|known| known == method)
        .map_or("other", |index| ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"][index])
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn names_are_the_callers_if_they_are_harmless() {
        let long = "a".repeat(MAX_LEN);
        let longer = "a".repeat(MAX_LEN + 1);
        for (given, is_kept) in
            [("row-1", true), ("a.b:C_9", true), (&*long, true), ("", false), ("a b", false), (&*longer, false)]
        {
            let request = Request::get("/").header(REQUEST_ID, given).body(Body::empty()).unwrap();
            assert_eq!(RequestName::of(&request).as_str() == given, is_kept, "{given}");
        }
        let request = Request::get("/").body(Body::empty()).unwrap();
        assert_eq!(RequestName::of(&request).as_str().len(), 36);
    }

    #[test]
    fn methods_are_few() {
        assert_eq!(method_label(&Method::DELETE), "DELETE");
        assert_eq!(method_label(&Method::from_bytes(b"BREW").unwrap()), "other");
    }
}
