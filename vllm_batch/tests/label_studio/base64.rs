//! Base64 for URLs (RFC 4648, section 5), without padding, as JSON Web Tokens have it.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(crate) fn encode(bytes: &[u8]) -> String {
    let groups = bytes.chunks(3).flat_map(|group| {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        (0..=group.len()).map(move |digit| char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]))
    });
    groups.collect()
}

pub(crate) fn decode(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut num_bits) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes() {
        let value = DIGITS.iter().position(|one| *one == digit).unwrap();
        (bits, num_bits) = (bits << 6 | value as u32, num_bits + 6);
        if num_bits >= 8 {
            num_bits -= 8;
            bytes.push((bits >> num_bits) as u8);
        }
    }
    bytes
}
