//! How vocabularies write bytes: GPT-2's alphabet of one character a byte, and SentencePiece's `<0xAB>`.

/// The bytes of a token of a byte-level vocabulary. A token that holds a character outside the alphabet, as added
/// tokens may, stands for its own text.
pub(super) fn bytes_of_token(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(byte_of_char).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// SentencePiece's name of the token that is this byte.
pub(super) fn byte_token(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// The byte that a character of GPT-2's alphabet stands for: printable Latin-1 stands for itself, and the other bytes
/// follow in order from U+0100.
fn byte_of_char(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121) as u8 + 0x7F),
        0x143 => Some(0xAD),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let bytes: BTreeSet<u8> = alphabet.iter().filter_map(|c| byte_of_char(*c)).collect();
        assert_eq!((alphabet.len(), bytes.len()), (256, 256));
    }

    #[test]
    fn tokens_become_bytes() {
        let cases: [(&str, &[u8]); 5] =
            [("Ġthe", b" the"), ("Ċ", b"\n"), ("ðŁ", &[0xF0, 0x9F]), ("ŃĢ", &[0xAD, 0x80]), ("<a b>", b"<a b>")];
        for (token, expected) in cases {
            assert_eq!(bytes_of_token(token), expected, "{token}");
        }
        assert_eq!(byte_token(10), "<0x0A>");
    }
}
