//! References inside one JSON Schema.

use serde_json::Value;

/// The schema that a `$ref` means, and its pointer: `#`, `#/a/pointer` or `#anchor`, alone or after the `$id` of the
/// whole. None when it is not there, or is in another document.
pub(super) fn resolve<'a>(root: &'a Value, reference: &str) -> Option<(String, &'a Value)> {
    let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    if !document.is_empty() && root.get("$id").and_then(Value::as_str).is_none_or(|id| without_fragment(id) != document)
    {
        return None;
    }
    let fragment = percent_decoded(fragment)?;
    if fragment.is_empty() || fragment.starts_with('/') {
        return Some((fragment.clone(), root.pointer(&fragment)?));
    }
    find_anchor(root, &fragment, String::new())
}

/// A pointer to a member of the place at `pointer`.
pub(super) fn child(pointer: &str, member: &str) -> String {
    format!("{pointer}/{}", member.replace('~', "~0").replace('/', "~1"))
}

fn without_fragment(uri: &str) -> &str {
    uri.split_once('#').map_or(uri, |(document, _)| document)
}

fn find_anchor<'a>(place: &'a Value, anchor: &str, pointer: String) -> Option<(String, &'a Value)> {
    match place {
        Value::Object(map) if map.get("$anchor").and_then(Value::as_str) == Some(anchor) => Some((pointer, place)),
        Value::Object(map) => map.iter().find_map(|(key, value)| find_anchor(value, anchor, child(&pointer, key))),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, value)| find_anchor(value, anchor, child(&pointer, &index.to_string())))
        }
        _ => None,
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found() {
        let root = json!({
            "$id": "https://example.org/s.json",
            "$defs": {"a/b": {"title": "slash"}, "c d": {"$anchor": "here"}, "list": [true, {"title": "second"}]},
        });
        let cases = [
            ("#", Some("")),
            ("", Some("")),
            ("#/$defs/a~1b", Some("/$defs/a~1b")),
            ("#/$defs/c%20d", Some("/$defs/c d")),
            ("#/%24defs/list/1", Some("/$defs/list/1")),
            ("#here", Some("/$defs/c d")),
            ("https://example.org/s.json#here", Some("/$defs/c d")),
            ("https://example.org/other.json#here", None),
            ("other.json", None),
            ("#there", None),
            ("#/$defs/none", None),
            ("#/%2", None),
            ("#/%zz", None),
        ];
        for (reference, expected) in cases {
            let found = resolve(&root, reference);
            let expected = expected.map(|pointer| (pointer.to_owned(), root.pointer(pointer).unwrap()));
            assert_eq!(found, expected, "{reference}");
        }
    }
}
