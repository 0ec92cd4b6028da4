//! Text that people read, in one language or several.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A text for people: one for all, or one for each locale.
///
/// # Example
/// ```
/// use vllm_batch::curate::LocalizedText;
///
/// let text: LocalizedText = serde_json::from_str(r#"{"en": "Tone", "de": "Tonfall"}"#)?;
/// assert_eq!((text.get("de-AT"), text.get("fr")), ("Tonfall", "Tone"));
/// assert_eq!(LocalizedText::from("Tone").get("de"), "Tone");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LocalizedText {
    /// One text for all.
    Plain(String),
    /// By locale, as in `en` or `de-AT`.
    ByLocale(BTreeMap<String, String>),
}

impl LocalizedText {
    /// The text for a locale, else for its language, else the English one, else the first; empty if there is none at all.
    pub fn get(&self, locale: &str) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::ByLocale(texts) => {
                let language = locale.split('-').next().unwrap_or(locale);
                let found = [locale, language, "en"].into_iter().find_map(|name| texts.get(name));
                found.or_else(|| texts.values().next()).map_or("", String::as_str)
            }
        }
    }

    /// The English text, or the one that stands for it.
    pub fn as_str(&self) -> &str {
        self.get("en")
    }
}

impl From<&str> for LocalizedText {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl From<String> for LocalizedText {
    fn from(text: String) -> Self {
        Self::Plain(text)
    }
}
