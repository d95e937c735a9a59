//! What was measured, for people and for programs. Numbers are whole thousandths of their unit.

use carp_tests::decimal::thousandth;
use std::fmt::Write;

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The part that it belongs to.
    pub part: &'static str,
    /// What was measured.
    pub name: String,
    /// Of the numbers.
    pub unit: Unit,
    /// One number for each run; none when the datapath cannot do it.
    pub runs: Vec<u64>,
    /// What it has to be, if anything.
    pub must: Option<Must>,
    /// What else there is to say.
    pub note: String,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds for a frame.
    Nanos,
    /// As much as something else.
    Times,
    /// Million frames a second.
    Mpps,
    /// Thousand million bits a second.
    Gbps,
    /// Hundredths.
    Percent,
    /// Milliseconds.
    Millis,
    /// Things.
    Count,
    /// Thousands of things a second.
    Kilo,
    /// Microseconds.
    Micros,
    /// Bytes.
    Bytes,
}

/// A limit, in thousandths of the row's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// Not more.
    AtMost(u64),
    /// Not less.
    AtLeast(u64),
    /// Not more, in any of the runs.
    NeverAbove(u64),
}

/// How a row stands to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Within.
    Pass,
    /// Beyond.
    Fail,
    /// For information.
    None,
    /// The datapath has nothing to measure yet.
    Absent,
}

impl Row {
    /// A row without a limit.
    pub fn new(part: &'static str, name: impl Into<String>, unit: Unit, runs: Vec<u64>) -> Self {
        Self { part, name: name.into(), unit, runs, must: None, note: String::new() }
    }

    /// The same with a limit.
    #[must_use]
    pub fn must(self, must: Must) -> Self {
        Self { must: Some(must), ..self }
    }

    /// The same with a remark.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// The middle of the runs.
    pub fn median(&self) -> Option<u64> {
        median(&self.runs)
    }

    /// How it stands.
    pub fn verdict(&self) -> Verdict {
        let Some(median) = self.median() else { return Verdict::Absent };
        match self.must {
            None => Verdict::None,
            Some(Must::AtMost(limit)) if median <= limit => Verdict::Pass,
            Some(Must::AtLeast(limit)) if median >= limit => Verdict::Pass,
            Some(Must::NeverAbove(limit)) if self.runs.iter().all(|run| *run <= limit) => Verdict::Pass,
            Some(Must::AtMost(_) | Must::AtLeast(_) | Must::NeverAbove(_)) => Verdict::Fail,
        }
    }

    fn limit(&self) -> String {
        let show = |limit| thousandth(limit, self.unit.decimals());
        match self.must {
            None => String::new(),
            Some(Must::AtMost(limit)) => format!("<= {}", show(limit)),
            Some(Must::AtLeast(limit)) => format!(">= {}", show(limit)),
            Some(Must::NeverAbove(limit)) => format!("all <= {}", show(limit)),
        }
    }

    fn line(&self) -> String {
        let show = |value| thousandth(value, self.unit.decimals());
        let median = self.median().map_or("-".to_owned(), show);
        let least = self.runs.iter().min().copied().map_or(String::new(), show);
        let most = self.runs.iter().max().copied().map_or(String::new(), show);
        let spread = if self.runs.len() > 1 { format!("{least} .. {most}") } else { String::new() };
        let (name, unit, limit) = (&self.name, self.unit.name(), self.limit());
        let verdict = self.verdict().name();
        let line = format!("  {name:<52} {median:>9} {unit:<4} {spread:<18} {limit:<9} {verdict:<6}");
        format!("{} {}", line.trim_end(), self.note).trim_end().to_owned()
    }

    fn json(&self) -> String {
        let exact = |value| thousandth(value, 3);
        let runs: Vec<String> = self.runs.iter().copied().map(exact).collect();
        let (at_most, at_least, never_above) = match self.must {
            None => (None, None, None),
            Some(Must::AtMost(limit)) => (Some(limit), None, None),
            Some(Must::AtLeast(limit)) => (None, Some(limit), None),
            Some(Must::NeverAbove(limit)) => (None, None, Some(limit)),
        };
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let optional = |value: Option<u64>| value.map_or("null".to_owned(), exact);
        format!(
            "{{\"part\": {}, \"name\": {}, \"unit\": {}, \"median\": {}, \"runs\": [{}], \
             \"at_most\": {}, \"at_least\": {}, \"never_above\": {}, \"verdict\": {}, \"note\": {}}}",
            text(self.part),
            text(&self.name),
            text(self.unit.name()),
            optional(self.median()),
            runs.join(", "),
            optional(at_most),
            optional(at_least),
            optional(never_above),
            text(self.verdict().name()),
            text(&self.note),
        )
    }
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Nanos => "ns",
            Self::Times => "x",
            Self::Mpps => "Mpps",
            Self::Gbps => "Gbps",
            Self::Percent => "%",
            Self::Millis => "ms",
            Self::Count => "",
            Self::Kilo => "k/s",
            Self::Micros => "us",
            Self::Bytes => "B",
        }
    }

    const fn decimals(self) -> usize {
        match self {
            Self::Nanos | Self::Count | Self::Bytes => 0,
            Self::Kilo | Self::Micros => 1,
            Self::Times | Self::Mpps | Self::Gbps | Self::Percent | Self::Millis => 2,
        }
    }
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::None => "",
            Self::Absent => "absent",
        }
    }
}

/// The middle of some numbers: the higher of two.
pub fn median(numbers: &[u64]) -> Option<u64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

/// `part` as much as `whole`, in thousandths; 0 of nothing.
pub fn ratio(part: u64, whole: u64) -> u64 {
    (part * 1000).checked_div(whole).unwrap_or(0)
}

/// The rows of a part, under its title.
pub fn table(title: &str, rows: &[Row]) -> String {
    let head = format!("\n{title}\n  {:<52} {:>9}      {:<18} {}\n", "", "median", "runs", "must");
    rows.iter().fold(head, |mut text, row| {
        // Writing to a String cannot fail.
        writeln!(text, "{}", row.line()).ok();
        text
    })
}

/// All rows as JSON; numbers in the row's unit.
pub fn json(rows: &[Row]) -> String {
    let rows: Vec<String> = rows.iter().map(|row| format!("    {}", row.json())).collect();
    format!("{{\n  \"schema\": 1,\n  \"rows\": [\n{}\n  ]\n}}\n", rows.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(runs: &[u64], must: Must) -> Row {
        Row::new("part", "some \"name\"", Unit::Times, runs.to_vec()).must(must)
    }

    #[test]
    fn the_median_is_judged_and_the_limit_itself_is_good() {
        let runs = [1500, 9000, 1000];
        assert_eq!(row(&runs, Must::AtMost(1500)).verdict(), Verdict::Pass);
        assert_eq!(row(&runs, Must::AtMost(1499)).verdict(), Verdict::Fail);
        assert_eq!(row(&runs, Must::AtLeast(1500)).verdict(), Verdict::Pass);
        assert_eq!(row(&runs, Must::AtLeast(1501)).verdict(), Verdict::Fail);
        assert_eq!(row(&runs, Must::NeverAbove(9000)).verdict(), Verdict::Pass);
        assert_eq!(row(&runs, Must::NeverAbove(8999)).verdict(), Verdict::Fail);
        assert_eq!(row(&[], Must::AtMost(0)).verdict(), Verdict::Absent);
        assert_eq!(Row::new("part", "name", Unit::Count, vec![1]).verdict(), Verdict::None);
    }

    #[test]
    fn the_measurements_are_json_with_the_promised_fields() {
        let rows = [row(&[1234, 2000, 1000], Must::AtMost(1500)), row(&[], Must::AtLeast(2500))];
        let value: serde_json::Value = serde_json::from_str(&json(&rows)).expect("valid JSON");
        let [measured, absent] = [&value["rows"][0], &value["rows"][1]];
        assert_eq!(measured["name"], "some \"name\"");
        assert_eq!(measured["median"].to_string(), "1.234");
        assert_eq!(measured["runs"].as_array().map(Vec::len), Some(3));
        assert_eq!(
            (measured["at_most"].to_string(), &measured["at_least"]),
            ("1.5".to_owned(), &serde_json::Value::Null)
        );
        assert_eq!(measured["verdict"], "PASS");
        assert_eq!((&absent["median"], &absent["verdict"]), (&serde_json::Value::Null, &"absent".into()));
    }

    #[test]
    fn a_ratio_has_three_decimals() {
        assert_eq!((ratio(3, 2), ratio(2, 3), ratio(1, 0)), (1500, 666, 0));
    }
}
