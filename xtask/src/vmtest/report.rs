//! The results as a table (kernel × test), as JSON, and as a part of `docs/kernels.md`.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::command::root;
use crate::test::Tally;

/// How a test target ended on one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The target.
    pub name: String,
    /// Its tests.
    pub tally: Tally,
    /// Names of tests that failed, or why the target has no result.
    pub failures: Vec<String>,
}

/// The results of one kernel.
#[derive(Clone, Debug)]
pub struct Column {
    /// `6.1`, or `newest`.
    pub series: String,
    /// The package's version: `6.1.192-2`.
    pub version: String,
    /// `uname -r`; none when it never started.
    pub release: Option<String>,
    /// By test target.
    pub ran: Vec<Ran>,
}

const DOCUMENT: &str = "docs/kernels.md";
const BEGIN: &str = "<!-- written by `cargo xtask vmtest --write` -->\n";
const END: &str = "<!-- end -->\n";

/// The sum of everything.
pub fn total(columns: &[Column]) -> Tally {
    let mut total = Tally::default();
    columns.iter().flat_map(|column| &column.ran).for_each(|ran| total.add(ran.tally));
    total
}

/// The table in Markdown, which reads as plain text too, and below it what failed.
pub fn table(columns: &[Column]) -> String {
    let mut names: Vec<&str> =
        columns.iter().flat_map(|column| &column.ran).map(|ran| ran.name.as_str()).collect();
    // What loads programs first, then the labs.
    names.sort_by_key(|name| (name.starts_with("lab_"), *name));
    names.dedup();
    let mut rows = vec![["passed".to_owned()].into_iter().chain(columns.iter().map(Column::title)).collect()];
    rows.extend(names.iter().map(|name| {
        let cells = columns.iter().map(|column| column.cell(name));
        [format!("`{name}`")].into_iter().chain(cells).collect::<Vec<_>>()
    }));
    format!("{}{}", aligned(&rows), failures(columns))
}

/// The same for programs.
pub fn json(columns: &[Column]) -> Value {
    let targets = |column: &Column| -> Vec<Value> {
        let ran = column.ran.iter();
        ran.map(|ran| {
            json!({
                "name": ran.name,
                "passed": ran.tally.passed,
                "failed": ran.tally.failed,
                "skipped": ran.tally.skipped,
                "failures": ran.failures,
            })
        })
        .collect()
    };
    let kernels: Vec<Value> = columns
        .iter()
        .map(|column| {
            json!({
                "series": column.series,
                "version": column.version,
                "release": column.release,
                "targets": targets(column),
            })
        })
        .collect();
    json!({ "schema": 1, "kernels": kernels })
}

/// Puts the table into the document, in place of the last one.
///
/// # Errors
/// The document has no place for it.
pub fn write_document(columns: &[Column]) -> Result<()> {
    let file = root().join(DOCUMENT);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let text = with_table(&text, &table(columns))
        .with_context(|| format!("{DOCUMENT} has no `{}`", BEGIN.trim()))?;
    fs::write(&file, text).with_context(|| format!("cannot write {DOCUMENT}"))
}

impl Column {
    fn title(&self) -> String {
        match self.series.as_str() {
            "newest" => format!("newest: {}", self.version),
            _ => self.version.clone(),
        }
    }

    fn cell(&self, name: &str) -> String {
        let Some(ran) = self.ran.iter().find(|ran| ran.name == name) else { return "-".to_owned() };
        let Tally { passed, failed, skipped } = ran.tally;
        let count = |number, word| if number == 0 { String::new() } else { format!(", {number} {word}") };
        format!("{passed}{}{}", count(failed, "FAILED"), count(skipped, "skipped"))
    }
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += &format!("| {} |\n", cells.join(" | "));
        if at == 0 {
            let rules: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
            text += &format!("| {} |\n", rules.join(" | "));
        }
    }
    text
}

fn failures(columns: &[Column]) -> String {
    let mut text = String::new();
    for column in columns {
        for ran in &column.ran {
            for failure in &ran.failures {
                text += &format!("- {} `{}`: {failure}\n", column.title(), ran.name);
            }
        }
    }
    if text.is_empty() { text } else { format!("\nFailed:\n\n{text}") }
}

fn with_table(document: &str, table: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(name: &str, passed: u32, failures: &[&str]) -> Ran {
        let failed = u32::try_from(failures.len()).unwrap();
        let failures = failures.iter().map(|name| (*name).to_owned()).collect();
        Ran { name: name.to_owned(), tally: Tally { passed, failed, skipped: 0 }, failures }
    }

    fn columns() -> Vec<Column> {
        let column = |series: &str, version: &str, ran| Column {
            series: series.to_owned(),
            version: version.to_owned(),
            release: None,
            ran,
        };
        vec![
            column("5.10", "5.10.262-1", vec![ran("lab_b", 3, &["it moves"]), ran("xdp_a", 12, &[])]),
            column("newest", "7.3.4-1", vec![ran("xdp_a", 12, &[])]),
        ]
    }

    #[test]
    fn the_table_has_a_row_a_target_a_column_a_kernel_and_the_failures_below() {
        let expected = "\
| passed  | 5.10.262-1  | newest: 7.3.4-1 |
| ------- | ----------- | --------------- |
| `xdp_a` | 12          | 12              |
| `lab_b` | 3, 1 FAILED | -               |

Failed:

- 5.10.262-1 `lab_b`: it moves
";
        assert_eq!(table(&columns()), expected);
        assert_eq!(total(&columns()).to_string(), "27 passed, 1 failed, 0 skipped");
        assert_eq!(json(&columns())["kernels"][0]["targets"][0]["failures"][0], "it moves");
    }

    #[test]
    fn the_document_s_table_is_replaced_and_its_prose_stays() {
        let document = format!("# Kernels\n{BEGIN}old\n{END}prose\n");
        let expected = format!("# Kernels\n{BEGIN}\nnew\n\n{END}prose\n");
        assert_eq!(with_table(&document, "new\n"), Some(expected));
        assert_eq!(with_table("# Kernels\n", "new\n"), None);
    }
}
