//! The table of errors in `docs/http_api.md` and the code agree.

use std::collections::BTreeSet;
use std::path::Path;

use axum::http::StatusCode;

/// A status and a code.
type Told = (u16, String);

fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &sources(&path);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            all += text.split("#[cfg(test)]").next().unwrap_or_default();
        }
    }
    all
}

/// All text behind `start`, one piece for each time that it is there.
fn behind<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(start).map(move |(at, _)| &text[at + start.len()..])
}

/// What stands in quotation marks, if the text begins with that.
fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.split('"').next()
}

fn number_of(name: &str) -> Option<u16> {
    let named = |status: &StatusCode| {
        let reason = status.canonical_reason().unwrap_or_default();
        reason.to_uppercase().replace([' ', '-'], "_") == name
    };
    (400..600).filter_map(|number| StatusCode::from_u16(number).ok()).find(named).map(|status| status.as_u16())
}

/// Errors that the code names together with their status. Of a fault of the server that has another name, only the log is told.
fn told_in(source: &str) -> BTreeSet<Told> {
    let mut found = BTreeSet::new();
    for rest in behind(source, "StatusCode::") {
        let name: String = rest.chars().take_while(|letter| letter.is_ascii_uppercase() || *letter == '_').collect();
        let code = rest[name.len()..].strip_prefix(", ").and_then(quoted);
        found.extend(number_of(&name).zip(code.map(str::to_owned)));
    }
    for rest in behind(source, "(\"") {
        let Some((code, rest)) = rest.split_once("\", StatusCode::") else { continue };
        let is_code = code.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
        let name = rest.split(')').next().and_then(number_of).filter(|number| is_code && *number != 500);
        found.extend(name.map(|number| (number, code.to_owned())));
    }
    found.extend(behind(source, "unavailable(").filter_map(quoted).map(|code| (503, code.to_owned())));
    found
}

fn table() -> BTreeSet<Told> {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/http_api.md")).unwrap();
    let (_, section) = docs.split_once("\n| Status | Codes |\n").expect("docs/http_api.md has the table");
    let section = section.split("\n\n").next().unwrap_or_default();
    let mut found = BTreeSet::new();
    for row in section.lines() {
        let Some((status, codes)) = row.trim_matches(['|', ' ']).split_once(" | ") else { continue };
        let Ok(status) = status.parse() else { continue };
        found.extend(codes.split('`').skip(1).step_by(2).map(|code| (status, code.to_owned())));
    }
    // The pause that goes with some of them is in the table, too.
    found.retain(|(_, code)| code != "Retry-After");
    found
}

#[test]
fn every_code_is_in_the_table_with_its_status_and_no_other_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = sources(&folder.join("src")).split_whitespace().collect::<Vec<_>>().join(" ");
    let source = source.replace("( ", "(");
    let (told, table) = (told_in(&source), table());
    assert!(told.len() > 25, "{told:?}");
    assert_eq!(told.difference(&table).collect::<Vec<_>>(), Vec::<&Told>::new(), "codes that the table lacks");
    let core = sources(&folder.join("../vllm_batch/src"));
    let unknown =
        |(_, code): &&Told| !source.contains(&format!("\"{code}\"")) && !core.contains(&format!("\"{code}\""));
    assert_eq!(table.iter().filter(unknown).collect::<Vec<_>>(), Vec::<&Told>::new(), "codes that nothing has");
}
