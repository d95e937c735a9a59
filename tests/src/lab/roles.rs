//! The roles of two daemons, asked for over their control sockets: the election's side of the time
//! line, beside what the datapath does ([`super::windows`]).

use super::clock;
use anyhow::{Context, Result, ensure};
use carp_common::time::{Instant, Span};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

const PACE: Span = Span::millis(20);
/// A daemon that does not answer in this time is frozen.
const PATIENCE: Span = Span::millis(300);
/// What is shown for the roles of a daemon that does not answer.
pub const SILENT: &str = "no daemon";

/// A role was left for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, by the daemon's own account, to the millisecond; for a silent one, when it was seen.
    pub at: Instant,
    /// Index of the node.
    pub node: usize,
    /// `lan0 vhid 1`; empty for the daemon as a whole.
    pub host: String,
    /// `MASTER`, `BACKUP`, `INIT`, or [`SILENT`].
    pub role: String,
    /// Why.
    pub reason: String,
}

/// Watches two daemons from its start until it is dropped.
pub struct Roles {
    stop: Arc<AtomicBool>,
    changes: Arc<Mutex<Vec<Change>>>,
    thread: Option<JoinHandle<()>>,
}

/// Asks the daemon of an instance for its status, as JSON.
///
/// # Errors
/// When it does not answer, or refuses.
pub fn status(instance: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(Path::new("/run/carp").join(instance).join("control.sock"))?;
    stream.set_read_timeout(Some(PATIENCE.std()))?;
    stream.write_all(b"{\"verb\":\"status\"}\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer: Value = serde_json::from_str(&line).context("the answer is no JSON")?;
    ensure!(answer.get("hosts").is_some(), "no status: {line}");
    Ok(answer)
}

impl Roles {
    /// Starts to ask the daemons of two instances.
    pub fn start(instances: [String; 2]) -> Self {
        let (stop, changes) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopped, found) = (Arc::clone(&stop), Arc::clone(&changes));
        let thread = Some(std::thread::spawn(move || {
            let mut known = [BTreeMap::new(), BTreeMap::new()];
            while !stopped.load(Ordering::Relaxed) {
                for (node, (instance, known)) in instances.iter().zip(&mut known).enumerate() {
                    ask(node, instance, known, &found);
                }
                clock::sleep(PACE);
            }
        }));
        Self { stop, changes, thread }
    }

    /// Every change in `from..to`, in order.
    pub fn changes(&self, from: Instant, to: Instant) -> Vec<Change> {
        let all = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut some: Vec<_> =
            all.iter().filter(|change| from <= change.at && change.at < to).cloned().collect();
        some.sort_by_key(|change| change.at);
        some
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// `known` has the role of each virtual host, or of the host "" when the daemon is silent.
fn ask(node: usize, instance: &str, known: &mut BTreeMap<String, String>, changes: &Mutex<Vec<Change>>) {
    let now = clock::now();
    let found = match status(instance) {
        Ok(status) => roles(node, &status, now),
        Err(_) => vec![Change {
            at: now,
            node,
            host: String::new(),
            role: SILENT.to_owned(),
            reason: String::new(),
        }],
    };
    let present: BTreeMap<_, _> =
        found.iter().map(|change| (change.host.clone(), change.role.clone())).collect();
    let news = found.into_iter().filter(|change| known.get(&change.host) != Some(&change.role));
    changes.lock().unwrap_or_else(PoisonError::into_inner).extend(news);
    *known = present;
}

fn roles(node: usize, status: &Value, now: Instant) -> Vec<Change> {
    let hosts = status.get("hosts").and_then(Value::as_array).into_iter().flatten();
    let text = |host: &Value, key: &str| host.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |host: &Value, key: &str| host.get(key).and_then(Value::as_u64).unwrap_or_default();
    hosts
        .map(|host| Change {
            at: now - Span::millis(number(host, "since_ms")),
            node,
            host: format!("{} vhid {}", text(host, "interface"), number(host, "vhid")),
            role: text(host, "role"),
            reason: text(host, "reason"),
        })
        .collect()
}
