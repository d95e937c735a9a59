//! The daemon's door, that of the control socket too, for those who come from the network.

use crate::api::remote::{Code, Fault};
use crate::api::{Request, Response, Shared, Status};
use crate::io::control;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long the daemon may take.
const ANSWER: Duration = Duration::from_secs(12);

/// Asks the daemon, and waits for its answers.
#[derive(Clone, Debug)]
pub struct Door {
    calls: mpsc::Sender<control::Call>,
}

impl Door {
    /// By which requests of the control socket come, too.
    pub const fn new(calls: mpsc::Sender<control::Call>) -> Self {
        Self { calls }
    }

    /// Asks the daemon.
    ///
    /// # Errors
    /// [`Code::Refused`] in the daemon's words; [`Code::Stopping`]; [`Code::Busy`] when it takes too long.
    pub async fn ask(&self, request: Request) -> Result<Response, Fault> {
        let stopping = || Fault::new(Code::Stopping, "carpd is stopping");
        let (sender, receiver) = oneshot::channel();
        let answered = async {
            self.calls.send((request, sender)).await.map_err(|_| stopping())?;
            receiver.await.map_err(|_| stopping())
        };
        let answer = tokio::time::timeout(ANSWER, answered).await;
        let response = answer.map_err(|_| Fault::new(Code::Busy, "carpd does not answer in time"))??;
        response.or_error().map_err(|message| Fault::new(Code::Refused, message))
    }

    /// How the daemon is.
    ///
    /// # Errors
    /// As above.
    pub async fn status(&self) -> Result<Status, Fault> {
        let Response::Status(status) = self.ask(Request::Status).await? else { return Err(something_else()) };
        Ok(*status)
    }

    /// The shared configuration that it uses, with the hash of these sections.
    ///
    /// # Errors
    /// As above.
    pub async fn shared(&self, sections: Vec<String>) -> Result<Shared, Fault> {
        let Response::Shared(shared) = self.ask(Request::Shared { sections }).await? else {
            return Err(something_else());
        };
        Ok(*shared)
    }

    /// Goes on with another configuration, or says what that would change, as this request has it.
    ///
    /// # Errors
    /// As above.
    pub async fn reload(&self, request: Request) -> Result<Outcome, Fault> {
        let Response::Reloaded { changes, new_start } = self.ask(request).await? else {
            return Err(something_else());
        };
        Ok(Outcome { changes, new_start })
    }
}

/// What a configuration changes on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// A line each.
    pub changes: Vec<String>,
    /// Why the node hands over and starts anew for it, if it does.
    pub new_start: Option<String>,
}

fn something_else() -> Fault {
    Fault::new(Code::Internal, "carpd answered something else")
}
