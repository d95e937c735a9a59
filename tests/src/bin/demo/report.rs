//! The measurements, for people and for programs.

use crate::screen::Screen;
use carp_common::time::Span;
use carp_tests::decimal::thousandth;
use carp_tests::lab::download;
use carp_tests::lab::echo::Report;
use carp_tests::lab::stream::Stream;

/// A move and the way back.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `planned stop`, …
    pub name: &'static str,
    /// gw1 fails, gw2 takes over.
    pub there: Phase,
    /// gw1 is back and takes over.
    pub back: Phase,
}

/// What was measured around one take-over.
#[derive(Clone, Debug)]
pub struct Phase {
    /// What the client noticed.
    pub probes: Report,
    /// How long both served the same address.
    pub two_masters: Span,
    /// The longest time in which nobody looked for that.
    pub blind: Span,
    /// From the event until the other gateway served every address; `None`: it did not.
    pub takeover: Option<Span>,
    /// From the event until the first probe left that came back through it; `None`: none did.
    pub answered: Option<Span>,
}

/// What was to be seen while something was done that is to move nothing.
#[derive(Clone, Debug)]
pub struct Calm {
    /// What the client noticed.
    pub probes: Report,
    /// How long both served the same address.
    pub two_masters: Span,
    /// Changes of a role, or of what a datapath serves.
    pub moved: usize,
}

/// A configuration that was applied on gw1.
#[derive(Clone, Debug)]
pub struct Edit {
    /// `good change`, …
    pub name: &'static str,
    /// Until carpctl said what has become of it, on both nodes.
    pub took: Span,
    /// Meanwhile.
    pub calm: Calm,
}

/// What became of the connection from outside to the forwarded port.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Blocks that came back right.
    pub blocks: u64,
    /// How it broke, if it did.
    pub broke: Option<String>,
}

impl Visit {
    /// Ends it.
    pub fn of(stream: Stream) -> Self {
        let so_far = stream.blocks();
        match stream.finish() {
            Ok(blocks) => Self { blocks, broke: None },
            Err(error) => Self { blocks: so_far, broke: Some(format!("{error:#}")) },
        }
    }

    /// In one line.
    pub fn summary(&self) -> String {
        let Self { blocks, broke } = self;
        format!(
            "port forward: one TCP connection from outside, {blocks} answers, all right, {}",
            end_of(broke)
        )
    }
}

impl Edit {
    /// No probe was lost, no role moved, and never did two serve.
    pub fn is_good(&self) -> bool {
        let Calm { probes, two_masters, moved } = &self.calm;
        probes.sent > 0 && probes.lost == 0 && *two_masters == Span::ZERO && *moved == 0
    }

    /// In one line.
    pub fn summary(&self) -> String {
        let Calm { probes, two_masters, moved } = &self.calm;
        format!(
            "lost {} of {} probes, roles moved {moved}, two masters {} ms, carpctl took {} ms",
            probes.lost,
            probes.sent,
            millis(*two_masters),
            millis(self.took),
        )
    }

    fn json(&self) -> String {
        let Calm { probes, two_masters, moved } = &self.calm;
        format!(
            "    {{\"name\": \"{}\", \"probes_sent\": {}, \"lost\": {}, \"two_masters_ms\": {}, \"roles_moved\": {moved}, \
             \"took_ms\": {}}}",
            self.name,
            probes.sent,
            probes.lost,
            exact(*two_masters),
            exact(self.took),
        )
    }
}

impl Outcome {
    /// It took over both ways, probes came through, and never did two serve.
    pub fn is_good(&self) -> bool {
        [&self.there, &self.back].iter().all(|phase| {
            phase.takeover.is_some() && phase.answered.is_some() && phase.two_masters == Span::ZERO
        })
    }
}

impl Phase {
    /// In one line.
    pub fn summary(&self) -> String {
        let takeover = self.takeover.map_or("none".to_owned(), millis);
        format!(
            "lost {} of {} probes, longest gap {} ms, two masters {} ms, take-over {takeover} ms",
            self.probes.lost,
            self.probes.sent,
            millis(self.probes.longest_gap),
            millis(self.two_masters),
        )
    }

    fn json(&self) -> String {
        format!(
            "\"probes_sent\": {}, \"lost\": {}, \"longest_gap_ms\": {}, \"two_masters_ms\": {}, \
             \"takeover_ms\": {}, \"answered_ms\": {}, \"blind_ms\": {}",
            self.probes.sent,
            self.probes.lost,
            exact(self.probes.longest_gap),
            exact(self.two_masters),
            self.takeover.map_or("null".to_owned(), exact),
            self.answered.map_or("null".to_owned(), exact),
            exact(self.blind),
        )
    }
}

/// All moves, one a line.
pub fn table(outcomes: &[Outcome], screen: &mut Screen) {
    screen.line("");
    screen.line("                probes   lost   longest gap   two masters     take-over");
    for outcome in outcomes {
        for (name, phase) in [(outcome.name, &outcome.there), ("  and back", &outcome.back)] {
            screen.line(&format!(
                "  {name:<12}  {:>6} {:>6} {:>10} ms {:>10} ms {:>10} ms",
                phase.probes.sent,
                phase.probes.lost,
                millis(phase.probes.longest_gap),
                millis(phase.two_masters),
                phase.takeover.map_or("none".to_owned(), millis),
            ));
        }
    }
    screen.line("");
}

/// All moves as JSON; times in milliseconds with their microseconds. `back` has the same fields
/// for the way back; `answered_ms` is the time until the first probe that came back through the new
/// master, `blind_ms` the longest time between two looks for two masters. `took_ms` of an edit is the time until
/// `carpctl apply` said what has become of it.
pub fn json(edits: &[Edit], outcomes: &[Outcome], download: &download::Outcome, visit: &Visit) -> String {
    let edits = edits.iter().map(Edit::json).collect::<Vec<_>>().join(",\n");
    let moves = outcomes.iter().map(|outcome| {
        let Outcome { name, there, back } = outcome;
        format!("    {{\"name\": \"{name}\", {},\n     \"back\": {{{}}}}}", there.json(), back.json())
    });
    let moves = moves.collect::<Vec<_>>().join(",\n");
    let download::Outcome { bytes, longest_stall, is_whole, broke } = download;
    let stall = exact(*longest_stall);
    format!(
        "{{\n  \"schema\": 1,\n  \"edits\": [\n{edits}\n  ],\n  \"moves\": [\n{moves}\n  ],\n  \"download\": {{\"bytes\": {bytes}, \
         \"longest_stall_ms\": {stall}, \"checksum_right\": {is_whole}, \"broke\": {}}},\n  \"forward\": {{\"answers\": {}, \
         \"broke\": {}}}\n}}\n",
        broke.is_some(),
        visit.blocks,
        visit.broke.is_some()
    )
}

/// The download in one line.
pub fn download(download: &download::Outcome) -> String {
    let download::Outcome { bytes, longest_stall, is_whole, broke } = download;
    let sum = if *is_whole { "checksum right" } else { "CHECKSUM WRONG" };
    let end = end_of(broke);
    let size = thousandth(bytes / 1000, 1);
    format!(
        "download: one TCP connection, {size} MB, longest stall {} ms, {sum}, {end}",
        millis(*longest_stall)
    )
}

fn end_of(broke: &Option<String>) -> String {
    broke.as_ref().map_or("no reset".to_owned(), |broke| format!("BROKE: {broke}"))
}

fn millis(span: Span) -> String {
    thousandth(span.as_micros(), 1)
}

fn exact(span: Span) -> String {
    thousandth(span.as_micros(), 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measurements_are_json_with_the_promised_fields() {
        let phase = Phase {
            probes: Report { sent: 1000, lost: 3, longest_gap: Span::micros(4_125), outages: Vec::new() },
            two_masters: Span::ZERO,
            blind: Span::millis(2),
            takeover: None,
            answered: None,
        };
        let outcome = Outcome { name: "kill -9", there: phase.clone(), back: phase };
        let broke = Some("reset".to_owned());
        let longest_stall = Span::millis(402);
        let fetched = download::Outcome { bytes: 81_920_000, longest_stall, is_whole: true, broke };
        let line =
            "download: one TCP connection, 81.9 MB, longest stall 402.0 ms, checksum right, BROKE: reset";
        assert_eq!(download(&fetched), line);
        let visit = Visit { blocks: 700, broke: None };
        assert!(visit.summary().ends_with("700 answers, all right, no reset"));
        let probes = Report { sent: 900, ..Report::default() };
        let calm = Calm { probes, two_masters: Span::ZERO, moved: 0 };
        let edit = Edit { name: "good change", took: Span::millis(300), calm };
        assert!(edit.is_good());
        let text = json(&[edit], &[outcome], &fetched, &visit);
        let value: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
        assert_eq!(value["download"].to_string().matches("true").count(), 2);
        assert_eq!(value["forward"].to_string(), r#"{"answers":700,"broke":false}"#);
        assert_eq!(value["download"]["longest_stall_ms"].to_string(), "402.0");
        assert_eq!(value["edits"][0]["roles_moved"], 0);
        assert_eq!(value["edits"][0]["took_ms"].to_string(), "300.0");
        let movement = &value["moves"][0];
        assert_eq!(movement["name"], "kill -9");
        assert_eq!(movement["probes_sent"], 1000);
        assert_eq!(movement["lost"], 3);
        assert_eq!(movement["longest_gap_ms"].to_string(), "4.125");
        assert_eq!(movement["two_masters_ms"].to_string(), "0.0");
        assert!(movement["takeover_ms"].is_null());
    }
}
