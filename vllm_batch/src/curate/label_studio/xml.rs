//! Elements of a labelling configuration.

use std::fmt::Write as _;

use quick_xml::escape::escape;

/// One element. Attributes and text are escaped when it is written.
#[derive(Debug)]
pub(super) struct Element {
    tag: &'static str,
    attributes: Vec<(&'static str, String)>,
    text: String,
    children: Vec<Element>,
}

impl Element {
    pub(super) fn new(tag: &'static str) -> Self {
        Self { tag, attributes: Vec::new(), text: String::new(), children: Vec::new() }
    }

    pub(super) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((key, value.into()));
        self
    }

    /// An attribute that people read.
    pub(super) fn shown(self, key: &'static str, text: &str) -> Self {
        self.with(key, inert(text))
    }

    pub(super) fn text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    pub(super) fn child(mut self, child: Element) -> Self {
        self.children.push(child);
        self
    }

    pub(super) fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children);
        self
    }

    /// The document of which this is the root.
    pub(super) fn write(&self) -> String {
        let mut out = String::new();
        self.write_at(&mut out, 0);
        out
    }

    fn write_at(&self, out: &mut String, depth: usize) {
        let pad = "  ".repeat(depth);
        out.push_str(&pad);
        out.push('<');
        out.push_str(self.tag);
        for (key, value) in &self.attributes {
            // White space other than blanks becomes blanks where it is not written as a reference.
            let value = clean(value);
            let value = escape(&*value).replace('\n', "&#10;").replace('\r', "&#13;").replace('\t', "&#9;");
            let _ = write!(out, " {key}=\"{value}\"");
        }
        if self.children.is_empty() && self.text.is_empty() {
            return out.push_str("/>\n");
        }
        out.push('>');
        out.push_str(&escape(&*clean(&self.text)));
        if !self.children.is_empty() {
            out.push('\n');
            self.children.iter().for_each(|child| child.write_at(out, depth + 1));
            out.push_str(&pad);
        }
        let _ = writeln!(out, "</{}>", self.tag);
    }
}

/// A text without the characters that no XML document can have.
fn clean(text: &str) -> String {
    let is_allowed = |c: char| matches!(c, '\t' | '\n' | '\r') || (c >= ' ' && c != '\u{fffe}' && c != '\u{ffff}');
    text.chars().map(|c| if is_allowed(c) { c } else { '\u{fffd}' }).collect()
}

/// A text in which Label Studio finds no variable: it would replace `$5` by the task's value of that name.
fn inert(text: &str) -> String {
    text.replace('$', "$\u{2060}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_escaped() {
        let element = Element::new("View")
            .child(Element::new("Header").shown("value", "a<b> & \"c\" 'd' ]]>\n$5 \0"))
            .child(Element::new("Style").text(".x > .y::after { content: \"]]>\" }"));
        let expected = concat!(
            "<View>\n",
            "  <Header value=\"a&lt;b&gt; &amp; &quot;c&quot; &apos;d&apos; ]]&gt;&#10;$\u{2060}5 \u{fffd}\"/>\n",
            "  <Style>.x &gt; .y::after { content: &quot;]]&gt;&quot; }</Style>\n",
            "</View>\n",
        );
        assert_eq!(element.write(), expected);
    }
}
