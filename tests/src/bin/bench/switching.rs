//! How long it takes from the first virtual host of a real daemon that changes to the last: when it becomes
//! master of all, and when it leaves.

use crate::report::{Must, Row, Unit};
use crate::scale::PART;
use crate::size::Size;
use anyhow::Result;
use carp_common::time::{Instant, Span};
use carp_tests::lab::Lab;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::clock;
use carp_tests::lab::config::{Config, VirtualHost};
use carp_tests::lab::windows::Windows;

/// Of the first and of the last change.
const PATIENCE: Span = Span::secs(90);
/// Milliseconds.
pub const MUST: Must = Must::AtMost(10_000);

/// Looks at the first and the last virtual host each millisecond: the daemon goes through them in order.
pub fn measure(lab: &Lab, size: Size) -> Result<Vec<Row>> {
    let host = size.namespace(lab, "daemon")?;
    let mut carpd = Carpd::start(lab, &host, &config(size))?;
    let mut windows = carpd.windows();
    let last = u32::from(size.links) * u32::from(size.hosts) - 1;
    let opened = change(&mut windows, last, true)?;
    carpd.begin_stop()?;
    let closed = change(&mut windows, last, false)?;
    carpd.finish_stop()?;
    let row = |what: &str, span: Span| {
        let name = format!("{what} by the daemon, {size}");
        Row::new(PART, name, Unit::Millis, vec![span.as_micros()]).must(MUST)
    };
    Ok(vec![row("opened", opened), row("closed", closed)])
}

fn change(windows: &mut Windows, last: u32, open: bool) -> Result<Span> {
    let mut at = |slot| -> Result<Instant> {
        let seen = || (windows.serves(slot) == open).then(clock::now);
        clock::wait_for(&format!("window {slot} to change"), PATIENCE, seen)
    };
    let first = at(0)?;
    Ok(at(last)?.since(first))
}

fn config(size: Size) -> Config {
    // Kept for as long as this program runs; there are not many.
    let keep = |text: String| -> &'static str { text.leak() };
    let links = (0..size.links).map(|number| (number, keep(size.link(number))));
    let hosts = links.flat_map(|(number, interface)| {
        size.vhids().map(move |vhid| {
            let addresses = size.vips(number, vhid).map(|vip| keep(vip.to_string())).collect();
            VirtualHost { interface, vhid: vhid.get(), addresses, base: 1, skew: 0 }
        })
    });
    Config { interfaces: Vec::new(), hosts: hosts.collect(), ..Config::gateway().with_xdp("native") }
}
