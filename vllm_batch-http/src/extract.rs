//! What do handlers take from a request, and what is said if that is not there?

use axum::body::Bytes;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::state::AppState;

/// The id in a path. One that no file or batch can have is not even looked up.
#[derive(Debug)]
pub(crate) struct Id(pub(crate) String);

/// A name in a path: of a model, or of a schema with or without its version.
#[derive(Debug)]
pub(crate) struct Name(pub(crate) String);

/// The query of a list, with errors in the envelope.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

/// A body that is JSON.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

/// Whether a text may be an id: neither paths nor control characters are.
pub(crate) fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=128).contains(&text.len()) && text.bytes().all(is_plain)
}

impl FromRequestParts<AppState> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) if is_id(&id) => Ok(Self(id)),
            Ok(Path(id)) => Err(ApiError::not_found("object", &id)),
            Err(rejection) => Err(path_error(&rejection)),
        }
    }
}

impl FromRequestParts<AppState> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Path(name) = Path::<String>::from_request_parts(parts, state).await.map_err(|error| path_error(&error))?;
        Ok(Self(name))
    }
}

/// What is wrong with a path's parameter: it can only be bytes that are no text.
fn path_error(rejection: &PathRejection) -> ApiError {
    match rejection {
        PathRejection::FailedToDeserializePathParams(error)
            if matches!(error.kind(), ErrorKind::InvalidUtf8InPathParam { .. }) =>
        {
            ApiError::new(StatusCode::NOT_FOUND, "not_found", "The address is not valid UTF-8.")
        }
        other => ApiError::internal(other),
    }
}

impl<T: DeserializeOwned> FromRequestParts<AppState> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Query(params) = Query::<T>::from_request_parts(parts, state).await?;
        Ok(Self(params))
    }
}

impl<T: DeserializeOwned> FromRequest<AppState> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            let message = "Send the body as JSON, with the header `Content-Type: application/json`.";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
        }
        let body = Bytes::from_request(request, state).await?;
        parse(&body).map(Self)
    }
}

/// Reads JSON; an error says where it is.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let (code, what) = if error.is_data() {
            ("invalid_value", "does not have the right form")
        } else {
            ("invalid_json", "is not valid JSON")
        };
        ApiError::new(StatusCode::BAD_REQUEST, code, format!("The body {what}: {error}"))
    })
}

/// `application/json`, with any parameters, and the types that end with `+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::Value;

    use super::*;

    #[test]
    fn ids_are_plain() {
        let cases = [
            ("file-0123", true),
            ("batch_0123", true),
            ("", false),
            ("../etc/passwd", false),
            ("a\0", false),
            ("é", false),
            ("a.b", false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_id(text), expected, "{text:?}");
        }
        assert!(is_id(&"a".repeat(128)) && !is_id(&"a".repeat(129)));
    }

    #[test]
    fn faults_of_json_have_a_place() {
        let told = |body: &[u8]| {
            let error = parse::<serde_json::Map<String, Value>>(body).unwrap_err();
            (error.code().to_owned(), error.into_envelope().error.message.into_owned())
        };
        let invalid = |message: &str| ("invalid_json".to_owned(), format!("The body is not valid JSON: {message}"));
        assert_eq!(told(b"{\n\"a\": }"), invalid("expected value at line 2 column 6"));
        assert_eq!(told(b""), invalid("EOF while parsing a value at line 1 column 0"));
        assert_eq!(told(b"{\"a\": \"\xff\"}").0, "invalid_json");
        assert_eq!(told(b"[1]").0, "invalid_value");
        let deep = format!("{{\"a\": {}", "[".repeat(1000));
        assert_eq!(told(deep.as_bytes()).0, "invalid_json");
    }

    #[test]
    fn types_of_json() {
        let cases = [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/json", false),
            ("text/plain", false),
            ("", false),
        ];
        for (text, expected) in cases {
            let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(text))].into_iter().collect();
            assert_eq!(is_json(&headers), expected, "{text}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
