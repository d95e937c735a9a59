//! `docs/xmlrpc.md`.

use super::{Access, Code, METHODS};
use std::fmt::Write;

/// The document, from the table.
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    // Writing to a String cannot fail.
    for method in METHODS {
        let who = match method.access {
            Access::Read => "every account",
            Access::Full => "accounts that may change something",
        };
        let _ = writeln!(text, "\n### {}\n", method.name);
        for way in method.signatures {
            let _ = writeln!(text, "`{}`\n", method.shown(way));
        }
        let _ = writeln!(text, "{} For {who}.", method.help);
    }
    text.push_str("\n## Faults\n\n| code | meaning |\n|---|---|\n");
    for code in Code::ALL {
        let _ = writeln!(text, "| {} | {} |", code.number(), code.meaning());
    }
    text
}

const INTRODUCTION: &str = include_str!("introduction.md");
