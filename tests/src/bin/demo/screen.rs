//! Output: on a terminal with a line that moves while something is waited for, else plain lines.

use anyhow::{Result, bail};
use carp_common::time::{Instant, Span};
use carp_tests::decimal::thousandth;
use carp_tests::lab::clock;
use std::io::{IsTerminal, Write};

const REDRAW: Span = Span::millis(100);
const BAR: u64 = 24;

/// Where the demonstration is told.
pub struct Screen {
    start: Instant,
    terminal: bool,
}

impl Screen {
    /// Standard output.
    pub fn new() -> Self {
        Self { start: clock::now(), terminal: std::io::stdout().is_terminal() }
    }

    /// A line as it is.
    pub fn line(&mut self, text: &str) {
        self.clear();
        println!("{text}");
    }

    /// A line with the time since the start.
    pub fn event(&mut self, text: &str) {
        let since = clock::now().since(self.start).as_millis();
        self.line(&format!("{:>6} s  {text}", thousandth(since / 100 * 100, 1)));
    }

    /// Waits, looking every millisecond and showing how long already.
    ///
    /// # Errors
    /// When it has not come true after `limit`.
    pub fn wait(&mut self, what: &str, limit: Span, condition: impl FnMut() -> bool) -> Result<()> {
        if self.watch(what, limit, condition) {
            return Ok(());
        }
        bail!("waited {limit} in vain for: {what}")
    }

    /// As [`Screen::wait`], but it is no mistake when it does not come true: then `false`.
    pub fn watch(&mut self, what: &str, limit: Span, mut condition: impl FnMut() -> bool) -> bool {
        let start = clock::now();
        let mut drawn = start;
        loop {
            let now = clock::now();
            let done = condition();
            if done || now.since(start) > limit {
                self.clear();
                return done;
            }
            if self.terminal && now.since(drawn) > REDRAW {
                drawn = now;
                self.draw(what, now.since(start), limit);
            }
            clock::sleep(Span::millis(1));
        }
    }

    /// Lets some time pass, in which probes go on.
    pub fn pass(&mut self, what: &str, span: Span) {
        self.watch(what, span, || false);
    }

    fn draw(&mut self, what: &str, spent: Span, limit: Span) {
        let share = spent.as_millis() * BAR / limit.as_millis().max(1);
        let bar: String = (0..BAR).map(|at| if at < share { '█' } else { '·' }).collect();
        print!("\r\x1b[K  {bar} {:>5} s  waiting for: {what}", thousandth(spent.as_millis(), 1));
        std::io::stdout().flush().ok();
    }

    fn clear(&mut self) {
        if self.terminal {
            print!("\r\x1b[K");
            std::io::stdout().flush().ok();
        }
    }
}
