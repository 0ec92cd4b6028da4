//! Which kind of token is it, and how is it shown to the server?
//!
//! Told by its shape: a JSON Web Token that says `refresh` is a personal access token, which only gets access tokens; any
//! other is one. What is none at all is a legacy token.

use std::time::{Duration, SystemTime};

use serde_json::Value;

/// An access token is not used in the last seconds of its life: clocks differ, and requests take time.
const MARGIN: Duration = Duration::from_secs(30);

/// A token by its kind.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// For ever; sent as `Token …`.
    Legacy(String),
    /// For some minutes; sent as `Bearer …`.
    Access(String),
    /// Exchanged for access tokens, and never sent otherwise.
    Personal(String),
}

impl Token {
    pub(super) fn of(text: &str) -> Self {
        let text = text.trim().to_owned();
        match claims(&text) {
            Some(claims) if claims["token_type"] == "refresh" => Self::Personal(text),
            Some(_) => Self::Access(text),
            None => Self::Legacy(text),
        }
    }

    /// Nothing of it may be shown.
    pub(super) fn secret(&self) -> &str {
        match self {
            Self::Legacy(text) | Self::Access(text) | Self::Personal(text) => text,
        }
    }
}

/// An access token that was got for a personal one.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct AccessToken {
    pub(super) text: String,
    /// It is good before this; `None` if it does not say so.
    until: Option<SystemTime>,
}

impl AccessToken {
    pub(super) fn new(text: String) -> Self {
        let expires = claims(&text).and_then(|claims| claims["exp"].as_u64());
        let until =
            expires.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(u64::from(u32::MAX))));
        Self { text, until: until.and_then(|until| until.checked_sub(MARGIN)) }
    }

    pub(super) fn is_good(&self, now: SystemTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// What a JSON Web Token says of itself. Nothing is checked: that is for the server.
fn claims(text: &str) -> Option<Value> {
    let mut parts = text.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&decode(payload)?).ok().filter(Value::is_object)
}

/// Base64 for URLs (RFC 4648, section 5), with or without padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut num_bits) = (0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        num_bits += 6;
        if num_bits >= 8 {
            num_bits -= 8;
            bytes.push((bits >> num_bits) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Payloads: {"token_type":"refresh","exp":8000000000}, {"token_type":"access","exp":1000}, and {"a":"~~~???"}.
    const REFRESH: &str = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCIsImV4cCI6ODAwMDAwMDAwMH0.c2ln";
    const ACCESS: &str = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoiYWNjZXNzIiwiZXhwIjoxMDAwfQ.c2ln";

    #[test]
    fn tokens_are_told_by_their_shape() {
        assert!(Token::of(REFRESH) == Token::Personal(REFRESH.to_owned()));
        assert!(Token::of(&format!(" {ACCESS}\n")) == Token::Access(ACCESS.to_owned()));
        for legacy in ["0123456789abcdef0123456789abcdef01234567", "a.b.c", "eyJ9", "x.!!.y", ""] {
            assert!(Token::of(legacy) == Token::Legacy(legacy.to_owned()), "{legacy}");
        }
        assert_eq!(decode("eyJhIjoifn5-Pz8_In0").as_deref(), Some(&br#"{"a":"~~~???"}"#[..]));
    }

    #[test]
    fn an_access_token_is_good_until_shortly_before_its_end() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let token = AccessToken::new(ACCESS.to_owned());
        assert_eq!([969, 970, 2000].map(|now| token.is_good(at(now))), [true, false, false]);
        assert!(AccessToken::new("opaque".to_owned()).is_good(at(4_000_000_000)));
    }
}
