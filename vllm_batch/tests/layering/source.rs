//! Just enough of Rust's syntax to see which paths a file uses.

use std::fs;
use std::path::Path;

/// One source file.
pub(crate) struct SourceFile {
    /// Relative to `src`, with `/`.
    pub(crate) path: String,
    /// The content without comments, strings and test code; line breaks are as they were.
    code: String,
    test_files: Vec<String>,
    num_test_lines: usize,
}

impl SourceFile {
    pub(crate) fn new(path: &str, content: &str) -> Self {
        let mut file = Self { path: path.to_owned(), code: blank(content), test_files: Vec::new(), num_test_lines: 0 };
        file.remove_test_items(content);
        file
    }

    /// The folder below `src`, or the file there.
    pub(crate) fn layer(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or("")
    }

    /// Lines that are not test code.
    pub(crate) fn num_lines(&self) -> usize {
        self.code.lines().count() - self.num_test_lines
    }

    /// Files that belong to test modules of this one; those that end in `/` are folders.
    pub(crate) fn test_files(&self) -> &[String] {
        &self.test_files
    }

    /// Every path in the code with its line: `use` trees are spread out, and what `super` leads to in the crate's root
    /// begins with `crate`, too.
    pub(crate) fn paths(&self) -> Vec<(usize, String)> {
        let mut parser = Parser { tokens: tokens(&self.code), next: 0, found: Vec::new() };
        while parser.next < parser.tokens.len() {
            if !parser.path("") {
                parser.next += 1;
            }
        }
        let up = "super::".repeat(self.depth());
        let from_root = |path: String| path.strip_prefix(&up).map(|rest| format!("crate::{rest}")).unwrap_or(path);
        parser.found.into_iter().map(|(line, path)| (line, from_root(path))).collect()
    }

    /// How many times `super` leads to the crate's root.
    fn depth(&self) -> usize {
        let parts = self.path.split('/').count();
        if self.is_module_root() { parts - 1 } else { parts }
    }

    fn is_module_root(&self) -> bool {
        ["mod.rs", "lib.rs"].contains(&self.path.rsplit('/').next().unwrap_or(""))
    }

    /// Blanks each item that follows `#[cfg(test)]`, and notes the files of test modules.
    fn remove_test_items(&mut self, content: &str) {
        const MARK: &str = "#[cfg(test)]";
        while let Some(start) = self.code.find(MARK) {
            let end = start + item_len(&self.code[start..]);
            let declares = self.code[start..end].trim_end_matches(';').rsplit(' ').next().unwrap_or("").to_owned();
            if self.code[start..end].ends_with(';') && self.code[start..end].contains("mod ") {
                self.note_test_file(&declares, &content[start..end]);
            }
            self.num_test_lines += self.code[start..end].lines().count();
            let blanked = self.code[start..end].replace(|c: char| c != '\n', " ");
            self.code.replace_range(start..end, &blanked);
        }
    }

    fn note_test_file(&mut self, name: &str, declaration: &str) {
        let folder = self.path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        if let Some((_, rest)) = declaration.split_once("#[path = \"") {
            self.test_files.push(folder + rest.split('"').next().unwrap_or(""));
            return;
        }
        let parent = if self.is_module_root() { folder } else { format!("{}/", self.path.trim_end_matches(".rs")) };
        self.test_files.extend([format!("{parent}{name}.rs"), format!("{parent}{name}/")]);
    }
}

/// All files below `src` but those of test modules.
pub(crate) fn read_sources(src: &Path) -> Vec<SourceFile> {
    let mut files = Vec::new();
    let mut folders = vec![src.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(src).expect("below src").to_string_lossy().replace('\\', "/");
                files.push(SourceFile::new(&name, &fs::read_to_string(&path).expect("UTF-8")));
            }
        }
    }
    let tests: Vec<String> = files.iter().flat_map(|file| file.test_files.clone()).collect();
    files.retain(|file| {
        !tests.iter().any(|test| file.path == *test || test.ends_with('/') && file.path.starts_with(test))
    });
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Length of the item at the start of `code`, with its attributes: up to a `;` or a closing brace outside all brackets.
fn item_len(code: &str) -> usize {
    let mut depth = 0usize;
    for (index, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(c, ';' | '}') {
            return index + 1;
        }
    }
    code.len()
}

/// Replaces comments and the content of strings and character literals by as many bytes of blanks.
fn blank(content: &str) -> String {
    let mut out = String::with_capacity(content.len());
    while out.len() < content.len() {
        let rest = &content[out.len()..];
        let hidden = comment_len(rest).or_else(|| literal_len(rest, out.ends_with(is_word)));
        let shown = rest.chars().next().map_or(0, char::len_utf8);
        match hidden {
            Some(len) => out.extend(rest[..len].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' })),
            None => out.push_str(&rest[..shown]),
        }
    }
    out
}

fn comment_len(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    rest.starts_with("/*").then_some(())?;
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let step = &rest.as_bytes()[at..];
        depth += i32::from(step.starts_with(b"/*")) - i32::from(step.starts_with(b"*/"));
        at += if step.starts_with(b"/*") || step.starts_with(b"*/") { 2 } else { 1 };
        if depth == 0 {
            return Some(at);
        }
    }
    Some(rest.len())
}

/// A string, raw string or character at the start of `rest`.
fn literal_len(rest: &str, follows_word: bool) -> Option<usize> {
    if let Some(raw) = rest.strip_prefix('r').filter(|_| !follows_word) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let text = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(1 + hashes + 1 + text.find(&end)? + end.len());
    }
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut chars = rest.char_indices().skip(1);
    if quote == '\'' && !rest.starts_with("'\\") && rest.chars().nth(2) != Some('\'') {
        return None; // a lifetime
    }
    while let Some((index, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            return Some(index + 1);
        }
    }
    Some(rest.len())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Words, `::` and single other characters, each with its line.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    for (index, mut rest) in code.lines().enumerate() {
        rest = rest.trim_start();
        while let Some(first) = rest.chars().next() {
            let len = match first {
                ':' if rest.starts_with("::") => 2,
                _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                _ => first.len_utf8(),
            };
            tokens.push((index + 1, &rest[..len]));
            rest = rest[len..].trim_start();
        }
    }
    tokens
}

struct Parser<'a> {
    tokens: Vec<(usize, &'a str)>,
    next: usize,
    found: Vec<(usize, String)>,
}

impl Parser<'_> {
    /// A path at the next token, with all branches of its tree; whether there is one.
    fn path(&mut self, prefix: &str) -> bool {
        let Some((line, word)) = self.tokens.get(self.next).copied().filter(|(_, token)| token.starts_with(is_word))
        else {
            return false;
        };
        self.next += 1;
        let path = match word {
            "self" if prefix.is_empty() => word.to_owned(),
            "self" => prefix.trim_end_matches("::").to_owned(),
            _ => format!("{prefix}{word}"),
        };
        if self.at("::") && self.tree_follows() {
            self.tree(&format!("{path}::"));
        } else {
            self.found.push((line, path));
        }
        true
    }

    /// What follows `::`: one more word, or branches in braces.
    fn tree(&mut self, prefix: &str) {
        if !self.at("{") {
            self.path(prefix);
            return;
        }
        while self.next < self.tokens.len() && !self.at("}") {
            if self.at("*") {
                self.found.push((self.tokens[self.next - 1].0, format!("{prefix}*")));
            } else if self.path(prefix) {
                self.skip_alias();
            } else {
                self.next += 1;
            }
        }
    }

    fn skip_alias(&mut self) {
        if self.at("as") {
            self.next += 1;
        }
    }

    fn tree_follows(&self) -> bool {
        self.tokens.get(self.next).is_some_and(|(_, token)| token.starts_with(is_word) || *token == "{")
    }

    /// Steps over `token` if it is the next one.
    fn at(&mut self, token: &str) -> bool {
        let is_next = self.tokens.get(self.next).is_some_and(|(_, next)| *next == token);
        self.next += usize::from(is_next);
        is_next
    }
}
