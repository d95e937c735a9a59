//! `tests/CONFORMANCE.md` tells the truth: its tests exist, and no item is left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The workspace's root.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn list() -> String {
    fs::read_to_string(root().join("tests/CONFORMANCE.md")).expect("the list is there")
}

#[test]
fn every_test_that_the_list_names_exists() {
    let mut functions = BTreeSet::new();
    for folder in ["carp-common", "carp-ebpf", "carp-user", "tests", "xtask"] {
        collect(&root().join(folder), &mut functions);
    }
    let list = list();
    let quoted = list
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    // A sentence, in Rust's letters: a test. Other quoted words are values.
    let is_test = |name: &&str| {
        name.matches('_').count() >= 3
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let missing: Vec<&str> = quoted.filter(is_test).filter(|name| !functions.contains(*name)).collect();
    assert_eq!(missing, [""; 0], "the list names tests that do not exist");
}

#[test]
fn every_item_that_is_due_has_its_line_and_those_without_a_test_a_reason() {
    let list = list();
    for item in (1..=110).chain([112, 113, 115, 116]) {
        let line = list.lines().find(|line| line.starts_with(&format!("| {item} |")));
        let cells: Vec<&str> = line.expect("every item has a line").split('|').map(str::trim).collect();
        assert!(cells[3] != "none" || cells[4].len() > 20, "item {item} has neither test nor reason");
    }
}

/// Names of all functions in the sources below a folder.
fn collect(folder: &Path, functions: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of the workspace").flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, functions);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            functions.extend(names.map(|name| name.trim().to_owned()));
        }
    }
}
