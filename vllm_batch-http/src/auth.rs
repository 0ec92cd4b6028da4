//! Who asks?
//!
//! With API keys, a request names one in `Authorization: Bearer …`. Only their SHA-256 is known here, and is compared in constant
//! time. Without API keys, everybody is the same caller, whose name is empty.

use std::fmt;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::error::ApiError;
use crate::limits::{Allowance, KeyLimits};
use crate::state::AppState;

/// An API key: what is kept of it, and what it may do.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    name: String,
    digest: [u8; 32],
    limits: KeyLimits,
}

impl ApiKey {
    /// A key by its SHA-256 in 64 hexadecimal digits, as [`hash_key`] makes it; `None` if these are not. Files and batches that
    /// are made with the key belong to `name`: two keys with one name share them.
    ///
    /// # Example
    /// ```
    /// use vllm_batch_http::{ApiKey, hash_key};
    ///
    /// assert!(ApiKey::from_sha256("red team", &hash_key("a long secret")).is_some());
    /// assert!(ApiKey::from_sha256("red team", "a long secret").is_none());
    /// ```
    pub fn from_sha256(name: impl Into<String>, sha256: &str) -> Option<Self> {
        let mut digest = [0; 32];
        let pairs = sha256.as_bytes().chunks_exact(2);
        if sha256.len() != 64 || !sha256.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, pair) in digest.iter_mut().zip(pairs) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self { name: name.into(), digest, limits: KeyLimits::default() })
    }

    /// Sets what the key may do.
    #[must_use]
    pub fn with_limits(mut self, limits: KeyLimits) -> Self {
        self.limits = limits;
        self
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The hash stays out of logs, too: short secrets can be guessed from it.
        formatter.debug_struct("ApiKey").field("name", &self.name).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The SHA-256 of a key, in 64 hexadecimal digits. Keys should be random and long: a hash does not save a short one.
///
/// # Example
/// ```
/// let hash = vllm_batch_http::hash_key("abc");
/// assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
/// ```
pub fn hash_key(secret: &str) -> String {
    format!("{:x}", Sha256::digest(secret))
}

/// Those who may ask.
#[derive(Debug)]
pub(crate) enum Callers {
    /// Anybody, all being one caller.
    Anybody(Caller),
    /// Those who have one of these keys.
    WithKeys(Vec<([u8; 32], Caller)>),
}

/// Who asks: an extractor of handlers behind [`authenticate`].
#[derive(Debug, Clone)]
pub(crate) struct Caller(Arc<CallerState>);

#[derive(Debug)]
struct CallerState {
    name: String,
    limits: KeyLimits,
    allowance: Allowance,
}

impl Caller {
    fn new(name: String, limits: KeyLimits) -> Self {
        Self(Arc::new(CallerState { name, limits, allowance: Allowance::new(&limits) }))
    }

    /// Whose files and batches the caller's are.
    pub(crate) fn owner(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn limits(&self) -> &KeyLimits {
        &self.0.limits
    }

    pub(crate) fn allowance(&self) -> &Allowance {
        &self.0.allowance
    }
}

impl Callers {
    pub(crate) fn new(keys: Vec<ApiKey>, anybody: KeyLimits) -> Self {
        if keys.is_empty() {
            return Self::Anybody(Caller::new(String::new(), anybody));
        }
        Self::WithKeys(keys.into_iter().map(|key| (key.digest, Caller::new(key.name, key.limits))).collect())
    }

    /// Who sends these headers.
    ///
    /// # Errors
    /// 401, the same for a key that is missing, not well formed, or unknown.
    fn find(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let keys = match self {
            Self::Anybody(caller) => return Ok(caller.clone()),
            Self::WithKeys(keys) => keys,
        };
        let digest: [u8; 32] = Sha256::digest(bearer(headers).ok_or_else(unauthorized)?).into();
        // All keys are compared, whichever it is.
        let mut found = u64::MAX;
        for (index, (known, _)) in keys.iter().enumerate() {
            let is_it: Choice = known.ct_eq(&digest);
            found.conditional_assign(&(index as u64), is_it);
        }
        let found = usize::try_from(found).ok().and_then(|index| keys.get(index));
        found.map(|(_, caller)| caller.clone()).ok_or_else(unauthorized)
    }
}

fn unauthorized() -> ApiError {
    let message = "Send one of this server's API keys in the header `Authorization: Bearer KEY`.";
    ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
}

/// The key in `Authorization`; the name of the scheme may be written in any case (RFC 9110, 11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked("Bearer ".len())?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !key.is_empty()).then_some(key)
}

/// Lets requests through whose caller is known and has not asked too often.
pub(crate) async fn authenticate(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let caller = state.callers().find(request.headers());
    let admitted = caller.and_then(|caller| caller.allowance().take_request().map(|()| caller));
    match admitted {
        Ok(caller) => {
            tracing::Span::current().record("owner", caller.owner());
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => {
            tracing::warn!(code = error.code(), "refused");
            error.into_response()
        }
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| ApiError::internal("a route asks for its caller and is not behind `authenticate`"))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn asked(authorization: Option<&'static [u8]>) -> HeaderMap {
        let value = authorization.map(|value| HeaderValue::from_bytes(value).unwrap());
        value.map(|value| (header::AUTHORIZATION, value)).into_iter().collect()
    }

    #[test]
    fn only_known_keys_are_callers() {
        let key = |name: &str, secret| ApiKey::from_sha256(name, &hash_key(secret).to_uppercase()).unwrap();
        let callers = Callers::new(vec![key("red", "r-1"), key("blue", "b-1")], KeyLimits::default());
        let cases: [(Option<&'static [u8]>, Option<&str>); 9] = [
            (Some(b"Bearer r-1"), Some("red")),
            (Some(b"bearer b-1"), Some("blue")),
            (Some(b"Bearer  b-1 "), Some("blue")),
            (Some(b"Bearer r-2"), None),
            (Some(b"Bearer "), None),
            (Some(b"Bearer"), None),
            (Some(b"Basic r-1"), None),
            (Some(b"Bearer \xff\xfe"), None),
            (None, None),
        ];
        for (authorization, expected) in cases {
            let found = callers.find(&asked(authorization));
            assert_eq!(found.as_ref().ok().map(Caller::owner), expected, "{authorization:?}");
        }
    }

    #[test]
    fn without_keys_everybody_is_one_caller() {
        let callers = Callers::new(Vec::new(), KeyLimits::default());
        for authorization in [None, Some(&b"Bearer x"[..])] {
            assert_eq!(callers.find(&asked(authorization)).unwrap().owner(), "");
        }
    }

    #[test]
    fn neither_keys_nor_hashes_are_shown() {
        let key = ApiKey::from_sha256("red", &hash_key("r-1")).unwrap();
        let shown = format!("{key:?}");
        assert!(
            shown.contains("red") && !shown.contains(&hash_key("r-1")[..8]) && !shown.contains("digest"),
            "{shown}"
        );
    }

    #[test]
    fn hashes_are_64_hexadecimal_digits() {
        let long = "0".repeat(63);
        for wrong in ["", "abc", &format!("{long}g"), &long, &format!("{long}00"), &format!("{}é", "0".repeat(62))] {
            assert_eq!(ApiKey::from_sha256("x", wrong), None, "{wrong}");
        }
    }
}
