//! `carpctl events`: what happened, and why.

use super::instance;
use super::watch::is_closed_within;
use crate::api::{Event, Request, Response, Step, What};
use anyhow::Result;
use rustix::event::Timespec;
use std::io::Write;
use std::process::ExitCode;

/// What happened to this node, and why: moves with their ranks and the time of each step, demotions, fences, peers,
/// configurations. The last 4096 since the daemon's start are kept.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Times are UTC. The steps of a take-over: `advert`, the others were told; `datapath`, frames are answered and let through; `announce`, switches and neighbours were told; `addresses`, addresses and routes are in place. Each is counted from the one before.\n\nExamples:\n  carpctl events --count 20\n  carpctl events -f\n  carpctl events --json | jq 'select(.event == \"taken_over\")'"
)]
pub struct Args {
    /// Go on with what happens from now on, until Ctrl-C or until nobody reads.
    #[arg(short, long)]
    follow: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Only the last so many.
    #[arg(long)]
    count: Option<u32>,
}

/// How often the daemon is asked for more.
const PACE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Prints them.
///
/// # Errors
/// When the daemon does not answer.
pub fn run(args: &Args, name: Option<&str>) -> Result<ExitCode> {
    let (mut after, mut count) = (0, args.count);
    // Of more than fit into one answer the first come first.
    let mut left = args.count.map(u64::from);
    loop {
        let Response::Events { events, dropped } = instance::ask(name, &Request::Events { after, count })?
        else {
            return Err(instance::something_else());
        };
        count = None;
        if dropped > 0 {
            eprintln!("carpctl: {dropped} older ones are not kept any more");
        }
        let mut text = String::new();
        for event in &events {
            text += &if args.json { serde_json::to_string(event)? } else { line(event) };
            text.push('\n');
        }
        let mut out = std::io::stdout();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            return Ok(ExitCode::SUCCESS);
        }
        after = events.last().map_or(after, |event| event.number);
        left = left.map(|left| left.saturating_sub(u64::try_from(events.len()).unwrap_or(left)));
        let is_done = events.is_empty() || left == Some(0);
        if is_done && (!args.follow || is_closed_within(PACE)) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// One event for people: when, what it is about, what happened.
fn line(event: &Event) -> String {
    let host = event.host.as_deref().unwrap_or("node");
    format!("{} {host}: {}", time(event.wall_ms), words(&event.what))
}

fn words(what: &What) -> String {
    match what {
        What::Started { version } => format!("carpd {version} has started"),
        What::Stopping => "carpd stops".to_owned(),
        What::Role { from, to, reason, rank_before, rank, master, master_rank } => {
            let own = if rank == rank_before { rank.clone() } else { format!("{rank}, was {rank_before}") };
            let other = master.as_deref().zip(master_rank.as_deref());
            let other = other.map(|(address, rank)| format!("; {address} {rank}")).unwrap_or_default();
            format!("{from} -> {to}: {reason} (own rank {own}{other})")
        }
        What::TakenOver { steps, total_us } => {
            let steps: Vec<String> =
                steps.iter().map(|Step { step, us }| format!("{step} {}", millis(*us))).collect();
            format!("taken over in {}: {}", millis(*total_us), steps.join(", "))
        }
        What::Serves => "serves".to_owned(),
        What::Fenced => "fenced: does not serve any more".to_owned(),
        What::Demoted { name, amount, reason, sum } => {
            format!("demoted by {amount}: {name} ({reason}); in all by {sum}")
        }
        What::Lifted { name, reason, sum } => {
            format!("not demoted any more: {name} ({reason}); in all by {sum}")
        }
        What::PeerHeard { address } => format!("{address} is heard"),
        What::PeerLost { address } => format!("{address} is not heard any more"),
        What::TwoMasters { text } | What::News { text } => text.clone(),
        What::Warning { text } => format!("warning: {text}"),
        What::Configured { origin, changes } if changes.is_empty() => {
            format!("configuration unchanged ({origin})")
        }
        What::Configured { origin, changes } => {
            format!("configuration changed ({origin}): {}", changes.join("; "))
        }
        What::ConfigurationRefused { origin, message } => {
            format!("configuration refused ({origin}): {message}")
        }
        What::ConfigurationTakenBack => "configuration not confirmed in time: taken back".to_owned(),
        What::Sync { state } => format!("sync is {state}"),
        What::Asked { text } => format!("asked for: {text}"),
        What::Answered { text } => format!("done: {text}"),
    }
}

/// Microseconds as `0.123 ms`.
fn millis(us: u64) -> String {
    format!("{}.{:03} ms", us / 1_000, us % 1_000)
}

/// Milliseconds since 1970 as `2026-11-30 12:34:56.789`, UTC.
fn time(wall_ms: u64) -> String {
    let (seconds, ms) = (wall_ms / 1_000, wall_ms % 1_000);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let (year, month, day) = date(seconds / 86_400);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{ms:03}")
}

/// The day of the Gregorian calendar so many days after 1970-01-01. Years begin in March here, so that the day that some have
/// more is the last.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (first, year) = ((153 * month + 2) / 5, era * 400 + year);
    if month < 10 { (year, month + 3, day - first + 1) } else { (year + 1, month - 9, day - first + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: What) -> Event {
        Event { number: 1, wall_ms: 86_400_123, monotonic_ns: 7, host: Some("lan0@1".to_owned()), what }
    }

    #[test]
    fn a_role_tells_why_and_both_ranks() {
        let role = |rank_before: &str| What::Role {
            from: "MASTER".to_owned(),
            to: "BACKUP".to_owned(),
            reason: "more frequent advertisement received".to_owned(),
            rank_before: rank_before.to_owned(),
            rank: "1/240".to_owned(),
            master: Some("10.0.0.3".to_owned()),
            master_rank: Some("1/100".to_owned()),
        };
        assert_eq!(
            line(&event(role("1/0"))),
            "1970-01-02 00:00:00.123 lan0@1: MASTER -> BACKUP: more frequent advertisement received (own rank \
             1/240, was 1/0; 10.0.0.3 1/100)"
        );
        assert!(line(&event(role("1/240"))).contains("(own rank 1/240; 10.0.0.3"));
    }

    #[test]
    fn a_take_over_tells_how_long_each_step_took() {
        let step = |step: &str, us| Step { step: step.to_owned(), us };
        let what =
            What::TakenOver { steps: vec![step("advert", 90), step("datapath", 1_234)], total_us: 1_324 };
        assert!(line(&event(what)).ends_with("taken over in 1.324 ms: advert 0.090 ms, datapath 1.234 ms"));
    }

    #[test]
    fn a_day_has_its_date() {
        let day = |seconds: u64| date(seconds / 86_400);
        assert_eq!(day(0), (1970, 1, 1));
        assert_eq!(day(951_782_400), (2000, 2, 29));
        assert_eq!(day(951_868_800), (2000, 3, 1));
        assert_eq!(day(1_796_083_199), (2026, 11, 30));
        assert_eq!(day(4_107_542_400), (2100, 3, 1));
    }

    #[test]
    fn an_event_reads_back_as_it_was_written() {
        let whole = Event { host: None, ..event(What::Sync { state: "in-step".to_owned() }) };
        let text = serde_json::to_string(&whole).expect("JSON");
        assert!(text.contains(r#""event":"sync""#), "{text}");
        assert_eq!(serde_json::from_str::<Event>(&text).expect("an event"), whole);
    }
}
