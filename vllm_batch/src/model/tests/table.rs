//! `docs/models.md` and the code agree.

use std::collections::BTreeSet;

use super::*;
use crate::model::families::FAMILIES;

/// The cells of the table of families that the code knows: both names, fixtures, and fixtures that are GGUF files in tests.
fn documented() -> Vec<[BTreeSet<String>; 4]> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/models.md");
    let docs = std::fs::read_to_string(path).unwrap();
    let (_, section) = docs.split_once("\n## Families\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `")).skip(1);
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        [cells[0], cells[1], cells[3], cells[4]].map(names)
    })
    .collect()
}

fn model_type(fixture_name: &str) -> String {
    let config = std::fs::read(fixture(fixture_name).join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    config["model_type"].as_str().unwrap().to_owned()
}

#[test]
fn the_table_of_families_is_what_the_code_has() {
    let (fixtures, gguf_files) = (fixtures(), gguf::fixtures());
    let rows = FAMILIES.iter().map(|family| {
        let of_family = |names: &[String]| {
            names.iter().filter(|name| model_type(name) == family.model_type).cloned().collect::<BTreeSet<_>>()
        };
        let name = |name: &str| BTreeSet::from([name.to_owned()]);
        [name(family.model_type), name(family.gguf_architecture), of_family(&fixtures), of_family(&gguf_files)]
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.iter().all(|row| !row[2].is_empty()), "a family without a fixture: {rows:?}");
    assert_eq!(documented(), rows);
}
