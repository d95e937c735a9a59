//! The trials as a picture: who owned the addresses, and which probes were lost. SVG, without anything from elsewhere.

use super::trial::{Phase, Trial};
use super::{Contender, Outcome};
use carp_common::time::{Instant, Span};
use carp_tests::decimal::thousandth;
use carp_tests::lab::owners::Look;
use std::fmt::Write;

/// Places in the picture.
const NAMES: u64 = 190;
const WIDTH: u64 = 420;
const SPACE: u64 = 40;
const HEAD: u64 = 34;
const LANE: u64 = 11;
const CONTENDER: u64 = 3 * LANE + 14;
/// What is shown before a moment, for each hundred of what is shown after it.
const BEFORE: u64 = 10;
/// At least so much is shown after it.
const LEAST: Span = Span::millis(100);
const COLOURS: [&str; 2] = ["#2a6fb0", "#d98a1f"];

/// A title, and which phase of a trial is below it.
type Column = (&'static str, fn(&Trial) -> &Phase);

/// One panel for each fault and one for what follows it; of each contender the trial in the middle by lost probes.
pub fn draw(outcomes: &[Outcome]) -> String {
    let mut body = String::new();
    let mut top = HEAD;
    for outcome in outcomes {
        let fault = outcome.fault;
        let columns: [Column; 2] =
            [(fault.name(), |trial| &trial.there), (fault.back(), |trial| &trial.back)];
        for (number, (title, phase)) in (0..).zip(columns) {
            let left = NAMES + number * (WIDTH + SPACE);
            let middles = outcome.contenders.iter().filter_map(|(contender, trials)| {
                let mut phases: Vec<&Phase> = trials.iter().map(phase).collect();
                phases.sort_by_key(|phase| (phase.lost, phase.extra_gap));
                Some((*contender, *phases.get(phases.len() / 2)?))
            });
            let phases: Vec<_> = middles.collect();
            body += &panel(left, top, title, &phases);
        }
        top += HEAD + CONTENDER * outcome.contenders.len() as u64 + 24;
    }
    let width = NAMES + 2 * (WIDTH + SPACE);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {top}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{top}\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"18\" font-size=\"13\">Who owns the addresses (<tspan fill=\"{}\">gw1</tspan>, <tspan fill=\"{}\">gw2</tspan>; \
         pale: one network only), and <tspan fill=\"#c22\">probes lost</tspan>; of each the trial in the middle</text>\n{body}</svg>\n",
        COLOURS[0], COLOURS[1]
    )
}

/// A panel: its axis, and three lanes for each contender.
fn panel(left: u64, top: u64, title: &str, phases: &[(Contender, &Phase)]) -> String {
    let shown = phases.iter().map(|(_, phase)| phase.interesting()).max().unwrap_or(LEAST).max(LEAST);
    let scale = Scale { left, shown };
    let bottom = top + HEAD + CONTENDER * phases.len() as u64;
    let mut text = format!("<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>\n", top + 14);
    let mut put = |line: String| {
        text += &line;
        text.push('\n');
    };
    for quarter in 0..=4 {
        let after = Span::nanos(shown.as_nanos() / 4 * quarter);
        let x = scale.after(after);
        put(format!("<path d=\"M{x} {}V{bottom}\" stroke=\"#ddd\"/>", top + HEAD - 8));
        let millis = thousandth(after.as_micros(), 0);
        put(format!(
            "<text x=\"{x}\" y=\"{}\" fill=\"#777\" text-anchor=\"middle\">{millis} ms</text>",
            bottom + 12
        ));
    }
    for (number, (contender, phase)) in (0..).zip(phases) {
        let y = top + HEAD + CONTENDER * number;
        if left == NAMES {
            put(format!("<text x=\"10\" y=\"{}\">{}</text>", y + 2 * LANE, contender.name()));
        }
        for (node, colour) in COLOURS.iter().enumerate() {
            lane(&scale, phase, (node, y + LANE * node as u64), colour).into_iter().for_each(&mut put);
        }
        for (first, last) in &phase.outages {
            let (from, to) = (scale.at(phase, *first), scale.at(phase, *last));
            put(rect((from, to.max(from + 1)), y + 2 * LANE, "#c22", "1"));
        }
    }
    text
}

/// Where a node owned the addresses.
fn lane(scale: &Scale, phase: &Phase, (node, y): (usize, u64), colour: &str) -> Vec<String> {
    let [Some(lan), Some(wan)] = [phase.looks.first(), phase.looks.get(1)] else { return Vec::new() };
    let owns = |look: &Look| look.owners.get(node) == Some(&true);
    // Both networks are asked in the same beat, with other beginnings.
    let nets = [lan, wan].map(|looks| spans(looks, owns));
    let place = |(from, to): &(Instant, Instant)| {
        let (from, to) = (scale.at(phase, *from), scale.at(phase, *to));
        rect((from, to.max(from + 1)), y, colour, "0.5")
    };
    nets.iter().flatten().map(place).collect()
}

/// From when to when it was so.
fn spans(looks: &[Look], so: impl Fn(&Look) -> bool) -> Vec<(Instant, Instant)> {
    let ends = looks.iter().skip(1).chain(looks.last()).map(|look| look.at);
    let such = looks.iter().zip(ends).filter(|(look, _)| so(look)).map(|(look, end)| (look.at, end));
    such.fold(Vec::new(), |mut spans: Vec<(Instant, Instant)>, (from, to)| {
        match spans.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            Some(_) | None => spans.push((from, to)),
        }
        spans
    })
}

fn rect((from, to): (u64, u64), y: u64, colour: &str, opacity: &str) -> String {
    let (width, height) = (to.saturating_sub(from), LANE - 2);
    let mut text = String::new();
    // Writing to a String cannot fail.
    write!(
        text,
        "<rect x=\"{from}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{colour}\" fill-opacity=\"{opacity}\"/>"
    )
    .ok();
    text
}

impl Phase {
    /// Until when there is something to see, after the moment.
    fn interesting(&self) -> Span {
        let changes = self.looks.iter().flat_map(|looks| {
            let pairs = looks.iter().zip(looks.iter().skip(1));
            pairs.filter(|(one, next)| one.owners != next.owners).map(|(_, next)| next.at)
        });
        let last = changes.chain(self.outages.iter().map(|(_, last)| *last)).max();
        let seen = last.map(|last| last.since(self.at)).unwrap_or_default();
        Span::nanos(seen.as_nanos() / 10 * 12)
    }
}

/// Where in the picture a moment is.
struct Scale {
    left: u64,
    shown: Span,
}

impl Scale {
    /// So long after what happened.
    fn after(&self, after: Span) -> u64 {
        let before = WIDTH * BEFORE / (100 + BEFORE);
        self.left
            + before
            + (WIDTH - before) * after.as_micros().min(self.shown.as_micros()) / self.shown.as_micros().max(1)
    }

    fn at(&self, phase: &Phase, moment: Instant) -> u64 {
        if moment >= phase.at {
            return self.after(moment.since(phase.at));
        }
        let before = phase.at.since(moment).as_micros();
        let most = WIDTH * BEFORE / (100 + BEFORE);
        let width = (WIDTH - most) * before / self.shown.as_micros().max(1);
        self.left + most.saturating_sub(width)
    }
}
