//! What a hook is told, and how it is run.

use crate::config::Hook;
use crate::io::program::{self, Ended};
use carp_common::time::Span;
use serde_json::json;
use tokio::sync::oneshot;

/// How a virtual host is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Name of its interface.
    pub interface: String,
    /// Its number.
    pub vhid: u8,
    /// The group that it belongs to.
    pub group: Option<String>,
    /// `INIT`, `BACKUP`, `MASTER`.
    pub role: &'static str,
    /// Whether the node serves it.
    pub serving: bool,
    /// Why it has its role.
    pub reason: &'static str,
    /// What this node competes with, base/skew.
    pub rank: String,
    /// The same of the master that was heard last.
    pub master_rank: Option<String>,
    /// When it began to be so: milliseconds since 1970.
    pub wall_ms: u64,
}

/// Whether the node may take over a virtual host, and with it all of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Counts up.
    pub number: u64,
    /// What is to be taken over, and why.
    pub state: State,
}

/// Tells a hook, and waits until it ends, or its time is over.
pub(super) async fn run(hook: &Hook, host: &str, (before, now): (Option<&State>, &State), node: &str) {
    let (outcome, _) = execute(hook, &text(before, now, node)).await;
    let (name, role, text) = (&hook.name, now.role, &outcome.text);
    if outcome.well {
        tracing::debug!(hook = name, virtual_host = host, role, "{text}");
    } else {
        tracing::warn!(hook = name, virtual_host = host, role, "{text}");
    }
}

/// Asks a gate.
///
/// # Errors
/// Why it refuses.
pub(super) async fn ask(hook: &Hook, Ask { state, .. }: &Ask, node: &str) -> Result<(), String> {
    let (Ended { well, text }, is_late) = execute(hook, &question(state, node)).await;
    let passes = well || (is_late && hook.when.passes_late() == Some(true));
    let (name, host) = (&hook.name, &state.interface);
    match (well, passes) {
        (true, _) => tracing::info!(hook = name, interface = host, "lets pass: {text}"),
        (false, true) => tracing::warn!(hook = name, interface = host, "is not waited for: {text}"),
        (false, false) => tracing::warn!(hook = name, interface = host, "refuses: {text}"),
    }
    if passes { Ok(()) } else { Err(format!("{name}: {text}")) }
}

/// Runs it with this input; how it ended, and whether it had to be ended as its time was over.
async fn execute(hook: &Hook, input: &str) -> (Ended, bool) {
    let (end, ended) = oneshot::channel();
    let program = program::run(&hook.script, input.as_bytes(), ended);
    tokio::pin!(program);
    let time = Span::millis(hook.timeout.into());
    tokio::select! {
        outcome = &mut program => (outcome, false),
        () = tokio::time::sleep(time.std()) => {
            drop(end);
            let Ended { text, .. } = program.await;
            (Ended { well: false, text: format!("its time is over after {time}: {text}") }, true)
        }
    }
}

/// One line of JSON, for a gate.
fn question(now: &State, node: &str) -> String {
    let told = json!({
        "event": "gate",
        "node": node,
        "group": now.group,
        "interface": now.interface,
        "vhid": now.vhid,
        "role": now.role,
        "reason": now.reason,
        "ranks": { "own": now.rank, "master": now.master_rank },
        "at": now.wall_ms,
    });
    format!("{told}\n")
}

/// One line of JSON.
fn text(before: Option<&State>, now: &State, node: &str) -> String {
    let is_role = before.is_none_or(|before| before.role != now.role);
    let told = json!({
        "event": if is_role { "role" } else { "serving" },
        "node": node,
        "group": now.group,
        "interface": now.interface,
        "vhid": now.vhid,
        "role": now.role,
        "serving": now.serving,
        "before": before.map(|before| before.role),
        "reason": now.reason,
        "ranks": { "own": now.rank, "master": now.master_rank },
        "at": now.wall_ms,
    });
    format!("{told}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_told_what_is_and_what_was() {
        let before = State { interface: "lan0".into(), vhid: 1, role: "BACKUP", ..State::default() };
        let now = State {
            role: "MASTER",
            reason: "master timed out",
            rank: "1/0".into(),
            master_rank: Some("1/100".into()),
            wall_ms: 7,
            ..before.clone()
        };
        assert_eq!(
            text(Some(&before), &now, "gw1"),
            "{\"at\":7,\"before\":\"BACKUP\",\"event\":\"role\",\"group\":null,\"interface\":\"lan0\",\"node\":\"gw1\",\
             \"ranks\":{\"master\":\"1/100\",\"own\":\"1/0\"},\"reason\":\"master timed out\",\"role\":\"MASTER\",\
             \"serving\":false,\"vhid\":1}\n"
        );
        let serves = State { serving: true, ..now.clone() };
        assert!(text(Some(&now), &serves, "gw1").contains("\"event\":\"serving\""));
        assert!(text(None, &serves, "gw1").contains("\"before\":null,\"event\":\"role\""));
    }
}
