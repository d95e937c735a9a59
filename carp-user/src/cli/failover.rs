//! `carpctl failover` and `carpctl maintenance`: moves that are planned.

use super::instance;
use crate::api::{Request, Response, VirtualHost};
use anyhow::Result;
use std::process::ExitCode;
use std::str::FromStr;

/// Hand the role over to the other node at once, without its dead time, and keep out of its way.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Run it on the node that serves. It hands over to its heir, the node of ours that has asked for that (carpctl explain), after that one has confirmed all connections, and returns 0 once that one has said that it serves; 1 when that did not come to pass, and why.\n\nWith preempt = true the node would take the role back at once. It does not: it leaves the new master alone until `carpctl failover --back` here, until `carpctl failover` there, until that node fails or is demoted, or until carpd is started anew here. For work on a node that may need a restart, use `carpctl maintenance`.\n\nExamples:\n  carpctl failover\n  carpctl failover edge --to gw2\n  carpctl failover --back"
)]
pub struct FailoverArgs {
    /// Only this group or virtual host (INTERFACE@VHID, with all that moves as one with it), or `all` (the default) of
    /// those that this node serves.
    #[arg(value_name = "GROUP|INTERFACE@VHID", default_value = "all")]
    which: Which,
    /// Only if that is the node of this name or address.
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// On the node that has handed over: preempt again, as it is configured.
    #[arg(long, conflicts_with_all = ["to", "force"])]
    back: bool,
    /// Also when the other node does not have all connections.
    #[arg(long)]
    force: bool,
}

/// Hand everything over, and rank this node lower until it is off, over restarts and reboots.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Refused when the other node cannot take over: it is not heard, or does not have all connections. While it is on, this node takes over only from a node that fails; carpctl status shows it and exits with 13.\n\nExamples:\n  carpctl maintenance on --for 2h --reason 'new memory'\n  carpctl maintenance off"
)]
pub struct MaintenanceArgs {
    /// Begin it, or end it.
    #[arg(value_parser = ["on", "off"])]
    state: String,
    /// End it by itself after so long: a number and s, m, h or d.
    #[arg(long = "for", value_name = "TIME")]
    time: Option<Duration>,
    /// Why, for whoever looks at the status.
    #[arg(long)]
    reason: Option<String>,
    /// Although the other node cannot take over.
    #[arg(long)]
    force: bool,
}

/// Which virtual hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    All,
    Group(String),
    One(VirtualHost),
}

/// Seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Duration(u32);

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let Some((interface, vhid)) = text.rsplit_once('@') else { return Ok(Self::Group(text.to_owned())) };
        let vhid = vhid.parse().map_err(|_| "expected INTERFACE@VHID, such as lan0@1, a group, or all")?;
        Ok(Self::One(VirtualHost { interface: interface.to_owned(), vhid }))
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a number and s, m, h or d, such as 90m".to_owned();
        let unit = text.chars().last().ok_or_else(wrong)?;
        let seconds: u32 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let number: u32 = text.strip_suffix(unit).unwrap_or_default().parse().map_err(|_| wrong())?;
        number.checked_mul(seconds).filter(|seconds| *seconds > 0).map(Self).ok_or_else(wrong)
    }
}

/// Moves the role; waits until the other node serves.
///
/// # Errors
/// When the daemon does not answer, or refuses, or the other node does not serve.
pub fn fail_over(args: FailoverArgs, name: Option<&str>) -> Result<ExitCode> {
    let (host, group) = match args.which {
        Which::All => (None, None),
        Which::Group(group) => (None, Some(group)),
        Which::One(host) => (Some(host), None),
    };
    let FailoverArgs { to, back, force, .. } = args;
    show(&instance::ask(name, &Request::Failover { host, group, to, back, force })?)
}

/// Begins or ends maintenance.
///
/// # Errors
/// As [`fail_over`].
pub fn maintain(args: MaintenanceArgs, name: Option<&str>) -> Result<ExitCode> {
    let MaintenanceArgs { state, time, reason, force } = args;
    let for_s = time.map(|Duration(seconds)| seconds);
    show(&instance::ask(name, &Request::Maintenance { on: state == "on", reason, for_s, force })?)
}

fn show(response: &Response) -> Result<ExitCode> {
    if let Response::Done = response {
        return Ok(ExitCode::SUCCESS);
    }
    let Response::Moved { moved, drained, us } = response else { return Err(instance::something_else()) };
    let hosts = moved.iter().map(|(host, to)| format!("{host}: {to} serves\n")).collect::<String>();
    let drained = match drained {
        Some(false) => "the other node had not confirmed all connections: the newest may be lost\n",
        Some(true) | None => "",
    };
    super::print(&format!("{hosts}{drained}done in {} ms\n", us.div_ceil(1_000)));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_host_is_named_as_the_status_shows_it() {
        let one = Which::One(VirtualHost { interface: "br0.7".to_owned(), vhid: 12 });
        assert_eq!("br0.7@12".parse(), Ok(one));
        assert_eq!("all".parse(), Ok(Which::All));
        assert_eq!("edge".parse(), Ok(Which::Group("edge".to_owned())));
        assert!("lan0@300".parse::<Which>().is_err());
    }

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        let seconds = |text: &str| text.parse().map(|Duration(seconds)| seconds).ok();
        assert_eq!(
            ["2h", "90m", "1s", "3d"].map(seconds),
            [Some(7_200), Some(5_400), Some(1), Some(259_200)]
        );
        assert_eq!(["", "2", "h", "0s", "-1h", "2 h", "1é", "99999999d"].map(seconds), [None; 8]);
    }
}
