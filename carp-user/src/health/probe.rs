//! One attempt of a track.

use crate::config::Script;
use crate::config::script::NOBODY;
use crate::config::track::Probe;
use crate::io::nic::{self, Nic};
use crate::io::ping::Ping;
use crate::io::program::{self, Ended};
use crate::io::{clock, processes};
use crate::proto::track::Outcome;
use carp_common::time::{Instant, Span};
use std::path::Path;
use tokio::sync::oneshot;

/// What asks systemd.
const SYSTEMCTL: &str = "/usr/bin/systemctl";
const MS_PER_SECOND: u64 = 1_000;

/// What an attempt leaves for the next one of the same track.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    errors: u64,
    at: Instant,
}

/// What it comes to, or what it has come to when `end` is sent or dropped. `number` is that of the attempt, `late` how late the
/// daemon woke since the one before.
pub(super) async fn look(
    probe: &Probe,
    number: u64,
    (before, late): (Option<Sample>, Span),
    end: oneshot::Receiver<()>,
) -> (Outcome, Option<Sample>) {
    let seen = match probe {
        Probe::Script { script, .. } => run(script, end).await,
        Probe::Unit { unit } => {
            let command = [SYSTEMCTL, "is-active", unit].map(str::to_owned).to_vec();
            run(&Script { command, user: NOBODY.to_owned() }, end).await
        }
        Probe::Gateway { device, address, .. } => match Ping::send(device, *address, number) {
            Ok(ping) => tokio::select! {
                answered = ping.answered() => {
                    answered.map(|()| "it answers".to_owned()).map_err(|error| format!("{address}: {error}"))
                }
                _ = end => Err("no answer".to_owned()),
            },
            Err(why) => Err(why),
        },
        Probe::Process { process } => {
            let process = process.clone();
            elsewhere(move || processes::runs(&process)).await
        }
        Probe::File { file, exists } => {
            let (file, exists) = (file.clone(), *exists);
            elsewhere(move || self::file(&file, exists)).await
        }
        Probe::WakeUps { most } => wakeups(late, Span::millis((*most).into())),
        Probe::Interface { device, errors, .. } => {
            let device = device.clone();
            let nic =
                elsewhere(move || nic::look(&device).map_err(|error| format!("{device}: {error}"))).await;
            return interface(nic, *errors, before);
        }
    };
    (outcome(seen), None)
}

async fn run(script: &Script, end: oneshot::Receiver<()>) -> Result<String, String> {
    let Ended { well, text } = program::run(script, b"", end).await;
    if well { Ok(text) } else { Err(text) }
}

/// On a thread that may wait for a disk, or for the kernel's lock for links.
async fn elsewhere<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}

fn outcome(seen: Result<String, String>) -> Outcome {
    seen.map_or_else(Outcome::Bad, Outcome::Good)
}

fn file(file: &Path, exists: bool) -> Result<String, String> {
    let name = file.display();
    match (file.try_exists(), exists) {
        (Ok(true), true) => Ok(format!("{name} is there")),
        (Ok(false), false) => Ok(format!("{name} is not there")),
        (Ok(true), false) => Err(format!("{name} is there")),
        (Ok(false), true) => Err(format!("{name} is not there")),
        (Err(error), _) => Err(format!("{name}: {error}")),
    }
}

fn wakeups(late: Span, most: Span) -> Result<String, String> {
    let text = format!("carpd woke {late} late");
    if late > most { Err(text) } else { Ok(text) }
}

fn interface(
    nic: Result<Nic, String>,
    most: Option<u16>,
    before: Option<Sample>,
) -> (Outcome, Option<Sample>) {
    let Nic { up, rx_errors, .. } = match nic {
        Ok(nic) => nic,
        Err(why) => return (Outcome::Bad(why), None),
    };
    let sample = Sample { errors: rx_errors, at: clock::now() };
    let seen = match (up, most) {
        (false, _) => Err("no carrier".to_owned()),
        (true, None) => Ok("it is up".to_owned()),
        (true, Some(most)) => match rate(before, sample) {
            Some(rate) if rate > u64::from(most) => Err(format!("{rate} errors of receiving a second")),
            Some(rate) => Ok(format!("{rate} errors of receiving a second")),
            None => Ok("it is up".to_owned()),
        },
    };
    (outcome(seen), Some(sample))
}

/// Errors a second, rounded up. A counter that has gone back is another driver's.
fn rate(before: Option<Sample>, now: Sample) -> Option<u64> {
    let Sample { errors, at } = before?;
    let more = now.errors.checked_sub(errors)?;
    more.checked_mul(MS_PER_SECOND)?.div_ceil(now.at.since(at).as_millis().max(1)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use carp_common::id::IfIndex;

    fn nic(up: bool, rx_errors: u64) -> Result<Nic, String> {
        Ok(Nic { index: IfIndex(7), up, rx_errors })
    }

    #[test]
    fn errors_of_receiving_are_counted_from_one_attempt_to_the_next() {
        let begun = Instant::from_nanos(1_000_000_000);
        let sample = |errors, seconds| Sample { errors, at: begun + Span::secs(seconds) };
        assert_eq!(rate(None, sample(7, 0)), None);
        assert_eq!(rate(Some(sample(7, 0)), sample(27, 2)), Some(10));
        assert_eq!(rate(Some(sample(7, 0)), sample(8, 2)), Some(1), "not none");
        assert_eq!(rate(Some(sample(7, 0)), sample(0, 2)), None);
        assert_eq!(rate(Some(sample(0, 0)), sample(u64::MAX, 2)), None, "more than there are");
    }

    #[test]
    fn an_interface_is_bad_without_a_carrier_and_with_too_many_errors() {
        let first = interface(nic(true, 5), Some(3), None);
        assert!(matches!(first.0, Outcome::Good(_)));
        let many = interface(nic(true, 500_000_000), Some(3), first.1);
        assert!(matches!(many.0, Outcome::Bad(why) if why.ends_with("errors of receiving a second")));
        assert!(matches!(interface(nic(true, 500_000_000), None, first.1).0, Outcome::Good(_)), "no limit");
        assert_eq!(interface(nic(false, 5), None, None).0, Outcome::Bad("no carrier".into()));
        assert!(matches!(interface(Err("gone".into()), None, None), (Outcome::Bad(_), None)));
    }

    #[test]
    fn wake_ups_may_be_as_late_as_is_configured_and_no_later() {
        let most = Span::millis(20);
        assert!(wakeups(most, most).is_ok());
        assert_eq!(wakeups(Span::millis(21), most), Err("carpd woke 21.000 ms late".into()));
    }

    #[test]
    fn a_file_is_to_be_there_or_not() {
        let there = std::env::current_exe().unwrap();
        let nowhere = Path::new("/no/such/file");
        assert!(file(&there, true).is_ok() && file(&there, false).is_err());
        assert!(file(nowhere, false).is_ok() && file(nowhere, true).is_err());
    }
}
