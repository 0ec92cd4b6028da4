//! Bytes as text: base64 (RFC 4648, section 4). Vectors are the bytes of their numbers, each four of them in little-endian
//! order.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The bytes as text.
pub(crate) fn encode_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let digit_bits = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= group.len() { char::from(DIGITS[digit_bits]) } else { '=' });
        }
    }
    text
}

/// The bytes of a text; `None` if it is not one of this kind.
pub(crate) fn decode_bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut num_bits) = (0u32, 0);
    for digit in digits.bytes() {
        bits = bits << 6 | DIGITS.iter().position(|known| *known == digit)? as u32;
        num_bits += 6;
        if num_bits >= 8 {
            num_bits -= 8;
            bytes.push((bits >> num_bits) as u8);
        }
    }
    Some(bytes)
}

/// The numbers as text.
pub(super) fn encode(numbers: &[f32]) -> String {
    encode_bytes(&numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>())
}

/// The numbers of a text; `None` if it is not one of this kind.
pub(super) fn decode(text: &str) -> Option<Vec<f32>> {
    let bytes = decode_bytes(text)?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_those_of_other_programs() {
        // Python: base64.b64encode(numpy.array(numbers, dtype="<f4").tobytes()).
        let cases: [(&[f32], &str); 4] =
            [(&[], ""), (&[1.0], "AACAPw=="), (&[0.5, -2.0], "AAAAPwAAAMA="), (&[0.1, 0.2, 0.3], "zczMPc3MTD6amZk+")];
        for (numbers, text) in cases {
            assert_eq!((encode(numbers).as_str(), decode(text)), (text, Some(numbers.to_vec())));
        }
        for broken in ["A", "AACAPw=", "AACAPw", "AACA", "AA!APw==", "AACAPw===="] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn every_number_comes_back(bits in prop::collection::vec(any::<u32>(), 0..40)) {
            let numbers: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
            let back = decode(&encode(&numbers)).unwrap_or_default();
            prop_assert_eq!(back.into_iter().map(f32::to_bits).collect::<Vec<_>>(), bits);
        }
    }
}
