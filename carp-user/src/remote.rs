//! XML-RPC over HTTPS, beside the daemon's loop: a thread of its own, with what strangers may ask of it bounded everywhere, so that
//! nothing that comes in here keeps an advert waiting. What is asked reaches the daemon by the same door as `carpctl`'s requests.

mod desk;
mod door;
mod gate;
mod http;
mod listener;
pub mod lockout;
pub mod staging;

pub use door::{Door, Outcome};
pub use gate::Caller;

use crate::config::Sync;
use crate::io::control::Call;
use anyhow::{Context, Result};
use tokio::sync::{mpsc, oneshot};

/// Threads for what blocks: hashing, files, parsing. Policy when all are busy: requests wait.
const BLOCKING_THREADS: usize = 3;

/// The running server. Dropping it ends it: it listens no more at once, and what is being answered has a moment to get out.
#[derive(Debug)]
pub struct Remote {
    _stop: oneshot::Sender<()>,
}

/// What a start needs to know.
#[derive(Debug)]
pub struct Start {
    /// Where it listens.
    pub sync: Sync,
    /// Name of this instance.
    pub node: String,
    /// The daemon's door.
    pub calls: mpsc::Sender<Call>,
}

impl Remote {
    /// Starts it, in the network namespace of the calling thread. It listens once there is an account.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(start: Start) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()
            .context("making the thread for XML-RPC")?;
        let (stop, stopped) = oneshot::channel();
        std::thread::Builder::new()
            .name("remote".to_owned())
            .spawn(move || {
                runtime.block_on(listener::serve(start, stopped));
                // Whatever blocks there ends by itself.
                runtime.shutdown_background();
            })
            .context("making the thread for XML-RPC")?;
        Ok(Self { _stop: stop })
    }
}
