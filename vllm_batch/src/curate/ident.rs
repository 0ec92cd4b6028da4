//! Names of schemas, fields and questions.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that every consumer can carry: a letter `a` to `z`, then at most 63 of `a` to `z`, `0` to `9` and `_`. It is a
/// key of JSON objects, a name in a labelling configuration, and a column.
///
/// # Example
/// ```
/// use vllm_batch::curate::Ident;
///
/// let ident: Ident = "call_to_action".parse()?;
/// assert_eq!(&*ident, "call_to_action");
/// assert!("Call to action".parse::<Ident>().is_err());
/// assert_eq!(Ident::slug("Early Career (0-3 years)").as_deref(), Some("early_career_0_3_years"));
/// # Ok::<(), vllm_batch::curate::InvalidIdent>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Ident(String);

impl Ident {
    /// Bytes of the longest name.
    pub const MAX_LEN: usize = 64;

    /// The name that a text suggests: its ASCII letters and digits in lower case, with one `_` for each run of anything
    /// else, cut off at the limit. `None` if no letter comes before the first digit that would begin it.
    #[must_use]
    pub fn slug(text: &str) -> Option<Self> {
        let slug = slug(text);
        slug.parse().ok()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// As [`Ident::slug`], but the result may begin with a digit or be empty: for values of options.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            slug.push(character.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('_') {
            slug.push('_');
        }
    }
    slug.truncate(Ident::MAX_LEN);
    slug.truncate(slug.trim_end_matches('_').len());
    slug
}

/// A text that is not an [`Ident`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a name: it takes a letter a-z, then at most 63 of a-z, 0-9 and _")]
#[non_exhaustive]
pub struct InvalidIdent {
    /// The text.
    pub text: String,
}

impl TryFrom<String> for Ident {
    type Error = InvalidIdent;

    fn try_from(text: String) -> Result<Self, InvalidIdent> {
        text.parse()
    }
}

impl FromStr for Ident {
    type Err = InvalidIdent;

    fn from_str(text: &str) -> Result<Self, InvalidIdent> {
        let valid = text.len() <= Self::MAX_LEN
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidIdent { text: text.to_owned() }) }
    }
}

impl TryFrom<&str> for Ident {
    type Error = InvalidIdent;

    fn try_from(text: &str) -> Result<Self, InvalidIdent> {
        text.parse()
    }
}

impl Deref for Ident {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Ident {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<str> for Ident {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Ident {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}
