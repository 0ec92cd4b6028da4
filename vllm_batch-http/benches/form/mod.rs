//! How is a batch file uploaded?

/// The type of the body.
pub(crate) const CONTENT_TYPE: &str = "multipart/form-data; boundary=b";

/// The body: a file for a batch, and other fields before it.
pub(crate) fn upload(fields: &[(&str, &str)], content: &str) -> String {
    let field = |name: &str, content: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\r\n\r\n{content}\r\n")
    };
    let fields = [("purpose", "batch")].iter().chain(fields);
    let fields: String = fields.map(|(name, value)| field(&format!("{name}\""), value)).collect();
    fields + &field("file\"; filename=\"a\"", content) + "--b--\r\n"
}
