//! The results as a table (kernel × test), as JSON, and as a part of `docs/kernels.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::command::root;
use crate::test::Tally;

/// How a test target ended on one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// The target.
    pub name: String,
    /// Its tests.
    #[serde(flatten)]
    pub tally: Tally,
    /// Names of tests that failed, or why the target has no result.
    pub failures: Vec<String>,
}

/// The results of one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// `6.1`, or `newest`.
    pub series: String,
    /// The package's version: `6.1.192-2`.
    pub version: String,
    /// `uname -r`; none when it never started.
    pub release: Option<String>,
    /// By test target.
    #[serde(rename = "targets")]
    pub ran: Vec<Ran>,
}

/// The last result of each target on each kernel, as kept in a file.
#[derive(Serialize, Deserialize)]
pub struct Results {
    schema: u32,
    /// By kernel.
    pub kernels: Vec<Column>,
}

const SCHEMA: u32 = 1;
const DOCUMENT: &str = "docs/kernels.md";
const BEGIN: &str = "<!-- written by `cargo xtask vmtest --write` -->\n";
const END: &str = "<!-- end -->\n";

impl Results {
    /// Those of the file; none when there is no file, or one of another form.
    pub fn read(file: &Path) -> Self {
        let read = fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        read.filter(|results: &Self| results.schema == SCHEMA).unwrap_or_else(|| Self::of(Vec::new()))
    }

    /// Of these kernels.
    pub fn of(kernels: Vec<Column>) -> Self {
        Self { schema: SCHEMA, kernels }
    }

    /// Takes over what has just been found. What was found on an older kernel of the series goes.
    pub fn renew(&mut self, fresh: Column) {
        let Some(column) = self.kernels.iter_mut().find(|column| column.series == fresh.series) else {
            self.kernels.push(fresh);
            return;
        };
        if column.version == fresh.version {
            column.release = fresh.release.or(column.release.take());
            column.ran.retain(|ran| fresh.ran.iter().all(|newer| newer.name != ran.name));
            column.ran.extend(fresh.ran);
        } else {
            *column = fresh;
        }
    }

    /// Writes them into the file.
    ///
    /// # Errors
    /// A full disk.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
    }

    /// Puts the table of these kernels and targets into the document, in place of the last one.
    ///
    /// # Errors
    /// The document has no place for it.
    pub fn write_document(&self, series: &[&str], targets: &[&str]) -> Result<()> {
        let column = |series: &&str| {
            let mut column = self.kernels.iter().find(|column| column.series == *series)?.clone();
            column.ran.retain(|ran| targets.contains(&ran.name.as_str()));
            Some(column)
        };
        let columns: Vec<Column> = series.iter().filter_map(column).collect();
        let file = root().join(DOCUMENT);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {DOCUMENT}"))?;
        let text = with_table(&text, &table(&columns))
            .with_context(|| format!("{DOCUMENT} has no `{}`", BEGIN.trim()))?;
        fs::write(&file, text).with_context(|| format!("cannot write {DOCUMENT}"))
    }
}

/// The sum of everything.
pub fn total(columns: &[Column]) -> Tally {
    let mut total = Tally::default();
    columns.iter().flat_map(|column| &column.ran).for_each(|ran| total.add(ran.tally));
    total
}

/// The table in Markdown, which reads as plain text too, and below it what failed.
pub fn table(columns: &[Column]) -> String {
    // What loads programs first, then the labs.
    let names: BTreeSet<(bool, &str)> = columns
        .iter()
        .flat_map(|column| &column.ran)
        .map(|ran| (ran.name.starts_with("lab_"), ran.name.as_str()))
        .collect();
    let mut rows = vec![["passed".to_owned()].into_iter().chain(columns.iter().map(Column::title)).collect()];
    rows.extend(names.into_iter().map(|(_, name)| {
        let cells = columns.iter().map(|column| column.cell(name));
        [format!("`{name}`")].into_iter().chain(cells).collect::<Vec<_>>()
    }));
    format!("{}{}", aligned(&rows), failures(columns))
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
    }

    #[test]
    fn a_result_takes_the_place_of_the_last_one_and_a_newer_kernel_begins_anew() {
        let mut results = Results::of(columns());
        let mut fresh = columns();
        fresh[0].ran = vec![ran("lab_b", 4, &[])];
        fresh[1].version = "7.4.1-1".to_owned();
        fresh[1].ran = vec![ran("lab_b", 4, &[])];
        fresh.iter().cloned().for_each(|column| results.renew(column));
        assert_eq!(results.kernels[0].ran, [ran("xdp_a", 12, &[]), ran("lab_b", 4, &[])]);
        assert_eq!(results.kernels[1], fresh[1]);
    }

    #[test]
    fn results_come_out_of_their_file_as_they_went_in() {
        let results = Results::of(columns());
        let text = serde_json::to_string(&results).unwrap();
        assert_eq!(serde_json::from_str::<Results>(&text).unwrap().kernels, columns());
        assert!(text.contains(r#""targets":[{"name":"lab_b","passed":3,"failed":1"#));
    }

    #[test]
    fn the_document_s_table_is_replaced_and_its_prose_stays() {
        let document = format!("# Kernels\n{BEGIN}old\n{END}prose\n");
        let expected = format!("# Kernels\n{BEGIN}\nnew\n\n{END}prose\n");
        assert_eq!(with_table(&document, "new\n"), Some(expected));
        assert_eq!(with_table("# Kernels\n", "new\n"), None);
    }
}
