//! `carpctl watch`: the status, every second.

use super::health::EXIT_CODES;
use super::status;
use super::view::View;
use crate::api::{SCHEMA, Status};
use crate::io::error::chain;
use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Write;
use std::process::ExitCode;

/// The status every second, until Ctrl-C or until nobody reads.
#[derive(Debug, clap::Args)]
#[command(
    after_help = format!("The exit code is 0 when the reader has gone, whatever was shown; each JSON object has the `exit_code` that `status` would have had.\n\n{EXIT_CODES}\n\nExamples:\n  carpctl watch\n  carpctl watch --json | jq -c '[.health, .why]'")
)]
pub struct Args {
    /// Print one JSON object a line instead of drawing anew.
    #[arg(long)]
    json: bool,
}

/// Shows the status until nobody reads. A daemon that goes away after the first look may come back.
///
/// # Errors
/// When the first look shows nothing.
pub fn run(args: &Args, name: Option<&str>) -> Result<ExitCode> {
    let mut view = Ok(View::look(name, None)?);
    let mut before: Option<Status> = None;
    loop {
        let text = if args.json { line(&view)? } else { screen(&view) };
        let mut out = std::io::stdout();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() || is_closed_within(SECOND) {
            return Ok(ExitCode::SUCCESS);
        }
        before = view.ok().map(|view| view.status).or(before);
        view = View::look(name, before.as_ref());
    }
}

const SECOND: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Waits for so long, or until nobody can read standard output any more.
pub(super) fn is_closed_within(time: Timespec) -> bool {
    let out = std::io::stdout();
    // Asked for nothing, poll(2) still tells of errors and hang-ups.
    let mut watched = [PollFd::new(&out, PollFlags::empty())];
    matches!(poll(&mut watched, Some(&time)), Ok(1..))
}

fn line(view: &Result<View>) -> Result<String> {
    let text = match view {
        Ok(view) => serde_json::to_string(view)?,
        Err(error) => serde_json::json!({ "schema": SCHEMA, "error": chain(error.as_ref()) }).to_string(),
    };
    Ok(text + "\n")
}

/// Home, then every line followed by "erase to its end", then "erase what is below": nothing flickers.
fn screen(view: &Result<View>) -> String {
    let text = match view {
        Ok(view) => status::render(view),
        Err(error) => format!("carpctl: {}\n", chain(error.as_ref())),
    };
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}
