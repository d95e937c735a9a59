//! Gates: the hooks that are asked, one after the other, before the node takes over.

use super::hooks::{Ask, ask};
use crate::config::Hook;
use crate::proto::event::Answer;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};

/// Questions that hooks run for at a time. Policy when full: the others wait, and their time runs.
const AT_ONCE: usize = 16;

/// The newest question of each virtual host or group; who has asked for it waits for no other.
pub(super) type Questions = BTreeMap<String, Ask>;
/// The newest answer, by the same name, to the question of this number.
pub type Answers = BTreeMap<String, (u64, Answer)>;

/// Questions that are being answered.
pub(super) struct Gates {
    hooks: Vec<Hook>,
    /// The number of the one that was taken last, by virtual host or group, and what ends it.
    running: BTreeMap<String, (u64, AbortHandle)>,
    runs: JoinSet<(String, u64, Answer)>,
    room: Arc<Semaphore>,
    tell: watch::Sender<Answers>,
}

impl Gates {
    pub(super) fn new(tell: watch::Sender<Answers>) -> Self {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        Self { hooks: Vec::new(), running: BTreeMap::new(), runs: JoinSet::new(), room, tell }
    }

    /// These are asked from now on.
    pub(super) fn set(&mut self, hooks: Vec<Hook>) {
        self.hooks = hooks;
    }

    /// Begins with those that are new. An older one of the same name is not waited for any more, and ends.
    pub(super) fn take(&mut self, questions: &Questions, node: &str) {
        self.running.retain(|name, _| questions.contains_key(name));
        for (name, question) in questions {
            let known = self.running.get(name);
            if known.is_some_and(|(number, _)| *number >= question.number) {
                continue;
            }
            if let Some((_, older)) = known {
                older.abort();
            }
            let (hooks, room) = (self.hooks.clone(), Arc::clone(&self.room));
            let (name_of, question, node) = (name.clone(), question.clone(), node.to_owned());
            let number = question.number;
            let run = self.runs.spawn(async move {
                let _place = room.acquire().await;
                let answer = all(&hooks, &question, &node).await;
                (name_of, question.number, answer)
            });
            self.running.insert(name.clone(), (number, run));
        }
    }

    /// Waits for one to end, and tells of it; for ever while there is none.
    pub(super) async fn ended(&mut self) {
        match self.runs.join_next().await {
            Some(Ok((name, number, answer))) => {
                self.tell.send_modify(|answers| {
                    answers.retain(|name, _| self.running.contains_key(name));
                    answers.insert(name, (number, answer));
                });
            }
            // One that was ended tells nobody.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }
}

/// The first that refuses decides.
async fn all(hooks: &[Hook], question: &Ask, node: &str) -> Answer {
    for hook in hooks {
        if let Err(why) = ask(hook, question, node).await {
            return Answer::Veto(why);
        }
    }
    Answer::Pass
}
