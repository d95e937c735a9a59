//! Sizes, names, places and words.

use std::collections::BTreeSet;

use super::Finding;
use super::source::{Source, words};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;

/// The crates; the architecture has no other top-level folder.
const CRATES: [&str; 5] = ["carp-common", "carp-ebpf", "carp-user", "tests", "xtask"];
/// The one folder beside them: generated and written documents.
const DOCS: &str = "docs";
/// House rule 13: a name that says nothing collects everything.
const EMPTY_NAMES: [&str; 7] = ["common", "helper", "helpers", "manager", "types", "util", "utils"];
/// House rule 6: where carp-ebpf may be unsafe.
const UNSAFE_FILES: [&str; 3] =
    ["carp-ebpf/src/parse.rs", "carp-ebpf/src/maps.rs", "carp-ebpf/src/maps/probes.rs"];

/// Rules about which files there are.
pub fn tree(paths: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let folders: BTreeSet<&str> = paths
        .iter()
        .filter_map(|path| Some(path.split_once('/')?.0))
        .filter(|name| !name.starts_with('.'))
        .collect();
    for extra in folders.iter().filter(|name| !CRATES.contains(name) && **name != DOCS) {
        findings.push(finding(
            "folders",
            0,
            format!("`{extra}/` is a new top-level folder: put it into one of the crates"),
        ));
    }
    for absent in CRATES.iter().filter(|name| !folders.contains(*name)) {
        findings.push(finding("folders", 0, format!("`{absent}/` is missing")));
    }
    if !paths.contains("Cargo.lock") {
        findings.push(finding("lock file", 0, "commit Cargo.lock: builds are --locked".to_owned()));
    }
    findings
}

/// Rules for every text file.
pub fn text(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_lock = path.ends_with("Cargo.lock");
    for (at, line) in text.lines().enumerate() {
        if !is_lock && names_build_machine(line) {
            findings.push(finding(
                "machine path",
                at + 1,
                "name it relative to the repository or by a variable".to_owned(),
            ));
        }
        if !is_lock && names_package_host(line) {
            findings.push(finding(
                "package host",
                at + 1,
                "leave the host to the user's package tool".to_owned(),
            ));
        }
        if line.contains(&later()) {
            findings.push(finding(
                "unfinished",
                at + 1,
                "do it now, or open an issue and drop the note".to_owned(),
            ));
        }
    }
    findings
}

/// Rules for Rust files.
pub fn rust(path: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.lines() > FILE_LINES {
        let advice = format!("{} lines, at most {FILE_LINES}: split it by subject", source.lines());
        findings.push(finding("file length", source.lines(), advice));
    }
    for function in source.functions().iter().filter(|function| function.length > FUNCTION_LINES) {
        let advice = format!(
            "`{}` has {} lines, at most {FUNCTION_LINES}: give its parts names",
            function.name, function.length
        );
        findings.push(finding("function length", function.line, advice));
    }
    findings.extend(names(path, source));
    findings.extend(unfinished(source));
    if path.starts_with("carp-ebpf/") && !UNSAFE_FILES.contains(&path) {
        findings.extend(unsafe_words(source));
    }
    findings
}

fn names(path: &str, source: &Source) -> Vec<Finding> {
    let advice = |name: &str| format!("`{name}` says nothing: name the module after what it knows");
    let of_path = path
        .trim_end_matches(".rs")
        .split('/')
        .filter(|part| EMPTY_NAMES.contains(part))
        .map(|part| finding("module name", 0, advice(part)));
    let mut findings: Vec<Finding> = of_path.collect();
    for (line, code) in source.code_lines() {
        let chars: Vec<char> = code.chars().collect();
        let words: Vec<String> = words(&chars).into_iter().map(|(_, word)| word).collect();
        for pair in
            words.windows(2).filter(|pair| pair[0] == "mod" && EMPTY_NAMES.contains(&pair[1].as_str()))
        {
            findings.push(finding("module name", line, advice(&pair[1])));
        }
    }
    findings
}

fn unfinished(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, code) in source.code_lines() {
        for (mark, advice) in [
            ("todo!", "write it, or return an error that says what is missing"),
            ("unimplemented!", "write it, or return an error that says what is missing"),
            ("#[ignore", "a test runs or goes; one that needs root belongs into an xdp_ or lab_ target"),
        ] {
            if code.contains(mark) {
                findings.push(finding("unfinished", line, format!("{mark}: {advice}")));
            }
        }
    }
    findings
}

fn unsafe_words(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, code) in source.code_lines() {
        let chars: Vec<char> = code.chars().collect();
        // An attribute such as #[unsafe(no_mangle)] is not an unsafe block.
        if words(&chars).iter().any(|(at, word)| word == "unsafe" && chars.get(at + 6) != Some(&'(')) {
            findings.push(finding("unsafe", line, format!("move it into {}", UNSAFE_FILES.join(" or "))));
        }
    }
    findings
}

/// Written in two parts, here and below, so that this file does not find itself.
fn later() -> String {
    ["FIX", "ME"].concat()
}

/// A path that only exists where somebody builds, at the start of a path.
fn names_build_machine(line: &str) -> bool {
    ["work", "root", "home"].iter().any(|folder| {
        let path = format!("/{folder}/");
        line.match_indices(&path).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "_-.$}~".contains(c))
        })
    })
}

/// An address of a package source: a mirror serves one site only.
fn names_package_host(line: &str) -> bool {
    line.match_indices("://").any(|(at, _)| {
        let host = line[at + 3..].split(['/', ' ', '"', '\'', '`', ')', '>']).next().unwrap_or_default();
        ["index.", "static.", "deb.", "security.", "registry", "mirror", "proxy", "artifact", "nexus"]
            .iter()
            .any(|part| host.starts_with(part) || (!part.ends_with('.') && host.contains(part)))
    })
}

fn finding(rule: &'static str, line: usize, advice: String) -> Finding {
    Finding { rule, line, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_hit(findings: &[Finding]) -> Vec<(&'static str, usize)> {
        findings.iter().map(|finding| (finding.rule, finding.line)).collect()
    }

    fn in_rust(path: &str, text: &str) -> Vec<(&'static str, usize)> {
        rules_hit(&rust(path, &Source::new(text)))
    }

    fn in_text(line: &str) -> Vec<(&'static str, usize)> {
        rules_hit(&text("README.md", line))
    }

    fn path_below(folder: &str) -> String {
        format!("/{folder}/me")
    }

    #[test]
    fn a_file_of_401_lines_is_too_long() {
        assert_eq!(in_rust("xtask/src/a.rs", &"//\n".repeat(401)), [("file length", 401)]);
        assert_eq!(in_rust("xtask/src/a.rs", &"//\n".repeat(400)), []);
    }

    #[test]
    fn a_function_of_71_lines_is_too_long() {
        let function = |lines: usize| format!("\nfn long() {{\n{}}}\n", "    f();\n".repeat(lines));
        assert_eq!(in_rust("xtask/src/a.rs", &function(71)), [("function length", 2)]);
        assert_eq!(in_rust("xtask/src/a.rs", &function(70)), []);
    }

    #[test]
    fn a_module_with_an_empty_name_is_found_by_file_and_by_declaration() {
        assert_eq!(in_rust("carp-user/src/utils.rs", ""), [("module name", 0)]);
        assert_eq!(in_rust("tests/tests/common/mod.rs", ""), [("module name", 0)]);
        assert_eq!(in_rust("carp-user/src/lib.rs", "\npub mod types;"), [("module name", 2)]);
        assert_eq!(in_rust("carp-common/src/lib.rs", "mod wire;"), []);
    }

    #[test]
    fn unfinished_code_is_found() {
        assert_eq!(in_rust("a.rs", "fn f() {\n    todo!()\n}"), [("unfinished", 2)]);
        assert_eq!(in_rust("a.rs", "unimplemented!();"), [("unfinished", 1)]);
        assert_eq!(in_rust("a.rs", "#[ignore = \"slow\"]"), [("unfinished", 1)]);
        assert_eq!(in_rust("a.rs", "// todo!() is a macro\nlet x = \"#[ignore]\";"), []);
        assert_eq!(in_text(&later()), [("unfinished", 1)]);
    }

    #[test]
    fn unsafe_has_its_two_files() {
        let code = "fn f() { unsafe { g() } }";
        assert_eq!(in_rust("carp-ebpf/src/main.rs", code), [("unsafe", 1)]);
        assert_eq!(in_rust("carp-ebpf/src/parse.rs", code), []);
        assert_eq!(in_rust("carp-user/src/io/bpf.rs", code), []);
        assert_eq!(in_rust("carp-ebpf/src/main.rs", "#[unsafe(no_mangle)]\n#![allow(unsafe_code)]"), []);
    }

    #[test]
    fn a_new_top_level_folder_and_a_missing_lock_file_are_found() {
        let mut paths: BTreeSet<String> = CRATES.iter().map(|name| format!("{name}/Cargo.toml")).collect();
        paths.insert("Cargo.lock".to_owned());
        paths.insert(".ci/run".to_owned());
        assert_eq!(rules_hit(&tree(&paths)), []);
        paths.insert("extra/a.md".to_owned());
        paths.remove("Cargo.lock");
        paths.remove("tests/Cargo.toml");
        assert_eq!(rules_hit(&tree(&paths)), [("folders", 0), ("folders", 0), ("lock file", 0)]);
    }

    #[test]
    fn a_path_of_a_build_machine_is_found() {
        for folder in ["work", "root", "home"] {
            assert_eq!(in_text(&path_below(folder)), [("machine path", 1)]);
        }
        assert_eq!(in_text("docs/work/plan ~/home/x"), []);
        assert_eq!(text("Cargo.lock", &path_below("home")).len(), 0);
    }

    #[test]
    fn an_address_of_a_package_source_is_found() {
        let address = |host: &str| ["https:", "//", host, "/a"].concat();
        assert_eq!(in_text(&address("index.crates.io")), [("package host", 1)]);
        assert_eq!(in_text(&address("cargo-mirror.example")), [("package host", 1)]);
        assert_eq!(in_text(&address("www.rfc-editor.org")), []);
    }
}
