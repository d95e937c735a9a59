//! One attempt of a track.

use crate::config::track::Probe;
use crate::io::program::{self, Ended};
use crate::proto::track::Outcome;
use tokio::sync::oneshot;

/// What it comes to, or what it has come to when `end` is sent or dropped.
pub(super) async fn look(probe: &Probe, end: oneshot::Receiver<()>) -> Outcome {
    match probe {
        Probe::Script { script, .. } => match program::run(script, b"", end).await {
            Ended { well: true, text } => Outcome::Good(text),
            Ended { well: false, text } => Outcome::Bad(text),
        },
    }
}
