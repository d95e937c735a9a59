//! House rule 1: `proto/` and carp-common do no IO, read no clock, draw no randomness, wait for nobody.

use super::Finding;
use super::source::{Source, words};

/// Where it holds, outside of test code.
const PURE: [&str; 2] = ["carp-common/src/", "carp-user/src/proto/"];

/// What pure code does not name, with what to do instead: a path from its start, or one word anywhere in a path.
const BANS: [(&str, &str); 18] = [
    ("std::net::Tcp", "sockets live in io/: return an action"),
    ("std::net::Udp", "sockets live in io/: return an action"),
    ("std::fs", "files are read by io/store or config"),
    ("std::time::Instant", "time comes in as an argument"),
    ("std::time::SystemTime", "time comes in as an argument"),
    ("std::thread", "the core has one owner"),
    ("std::env", "settings come in as an argument"),
    ("std::process", "return an action"),
    ("tokio", "the core is not async"),
    ("async", "the core is not async"),
    ("await", "the core is not async"),
    ("rand", "randomness comes in as a seed"),
    ("libc", "system calls live in io/"),
    ("rustix", "system calls live in io/"),
    ("aya", "only carp-common's map types know it, behind cfg(feature = \"user\")"),
    ("dyn", "no trait objects in the core: use an enum"),
    ("Mutex", "the core has one owner and no lock"),
    ("RwLock", "the core has one owner and no lock"),
];

/// The findings of one file.
pub fn check(path: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !PURE.iter().any(|folder| path.starts_with(folder))
        || path.ends_with("/tests.rs")
        || path.contains("/tests/")
    {
        return findings;
    }
    for (line, named) in named_paths(&source.code()) {
        let Some((ban, advice)) = BANS.iter().find(|(ban, _)| is_banned(&named, ban)) else { continue };
        let is_map_type = *ban == "aya" && path.starts_with("carp-common/") && source.is_user_only(line);
        if !source.is_test(line) && !is_map_type {
            findings.push(Finding { rule: "purity", line, advice: format!("`{named}`: {advice}") });
        }
    }
    findings
}

fn is_banned(named: &str, ban: &str) -> bool {
    if !ban.contains("::") {
        return named.split("::").any(|part| part == ban);
    }
    // `std::net::Tcp` stands for every name that begins so.
    let is_prefix = ban.ends_with("Tcp") || ban.ends_with("Udp");
    named.strip_prefix(ban).is_some_and(|rest| is_prefix || rest.is_empty() || rest.starts_with("::"))
}

/// Every path and single word with its line; what `use` groups is told apart.
fn named_paths(code: &str) -> Vec<(usize, String)> {
    let chars: Vec<char> = code.chars().collect();
    let tokens = words(&chars);
    let mut found: Vec<(usize, String)> = Vec::new();
    // Inside a `use`: the path before each open brace.
    let mut groups: Vec<String> = Vec::new();
    let mut path = String::new();
    let mut in_use = false;
    let (mut line, mut counted) = (1, 0);
    for (index, (at, word)) in tokens.iter().enumerate() {
        line += chars[counted..*at].iter().filter(|c| **c == '\n').count();
        counted = *at;
        let end = at + word.chars().count();
        let next = tokens.get(index + 1).map_or(chars.len(), |(at, _)| *at);
        if word == "use" {
            in_use = true;
            continue;
        }
        path.push_str(word);
        let between: String = chars[end..next].iter().filter(|c| !c.is_whitespace()).collect();
        if between == "::" {
            path.push_str("::");
            continue;
        }
        if in_use && between == "::{" {
            path.push_str("::");
            groups.push(path.clone());
            continue;
        }
        found.push((line, std::mem::take(&mut path)));
        if in_use {
            for mark in between.chars() {
                match mark {
                    '}' => drop(groups.pop()),
                    ';' => {
                        in_use = false;
                        groups.clear();
                    }
                    _ => {}
                }
            }
            path = groups.last().cloned().unwrap_or_default();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(path, &Source::new(text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn every_ban_fires() {
        for (ban, _) in BANS {
            assert_eq!(lines("carp-user/src/proto/node.rs", &format!("\nlet x = {ban};")), [2], "{ban}");
            assert_eq!(lines("carp-common/src/time.rs", &format!("{ban}::now()")), [1], "{ban}");
            assert_eq!(lines("carp-user/src/io/clock.rs", ban), [0; 0], "{ban}");
        }
        assert_eq!(lines("carp-user/src/proto/node.rs", "let s = std::net::TcpStream::connect(a);"), [1]);
        assert_eq!(lines("carp-user/src/proto/node.rs", "x.await"), [1]);
    }

    #[test]
    fn a_use_group_hides_nothing() {
        let text = "use std::{\n    collections::BTreeMap,\n    net::{IpAddr, UdpSocket},\n    fs as files,\n};\nfn f() {}";
        assert_eq!(lines("carp-user/src/proto/node.rs", text), [3, 4]);
    }

    #[test]
    fn our_own_names_pass() {
        let text =
            "use carp_common::time::Instant;\nuse std::net::IpAddr;\nfn f(now: Instant) { let operand = 1; }";
        assert_eq!(lines("carp-user/src/proto/node.rs", text), [0; 0]);
    }

    #[test]
    fn aya_is_for_the_user_feature_of_carp_common() {
        let gated = "#[cfg(feature = \"user\")]\nmod user {\n    unsafe impl aya::Pod for X {}\n}\n";
        assert_eq!(lines("carp-common/src/map.rs", gated), [0; 0]);
        assert_eq!(lines("carp-user/src/proto/node.rs", gated), [3]);
        assert_eq!(lines("carp-common/src/map.rs", "unsafe impl aya::Pod for X {}"), [1]);
    }

    #[test]
    fn tests_may_do_what_they_like() {
        assert_eq!(
            lines("carp-common/src/time.rs", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}"),
            [0; 0]
        );
        assert_eq!(lines("carp-user/src/proto/tests.rs", "use std::fs;"), [0; 0]);
    }
}
