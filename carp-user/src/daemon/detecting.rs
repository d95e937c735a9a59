//! Detection ([`crate::io::prober`]) and the node: who asks whom, and what becomes of it.

use super::Daemon;
use crate::io::prober::{Means, Prober, Told};
use crate::proto::detect::{By, Path, Watched};
use crate::proto::event::{Changes, Event, HostSetup};
use crate::proto::keyring;
use carp_common::time::Span;

/// What the prober tells; without one, nothing ever.
pub(super) async fn told(prober: Option<&mut Prober>) -> Told {
    match prober {
        // It ends with the daemon.
        Some(prober) => match prober.told().await {
            Some(told) => told,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// The shortest lease of those that need a pulse; `None`: none does.
pub(super) fn lease<'a>(hosts: impl Iterator<Item = &'a HostSetup>) -> Option<Span> {
    hosts.filter_map(|host| host.grouped()?.detect).map(|detect| detect.lease).min()
}

impl Daemon {
    /// The pulse is there before a lease is that needs it. Once there is one it goes on until the daemon stops.
    pub(super) fn detect(&mut self, changes: &Changes) {
        let is_new = self.shells.prober.is_none();
        self.prepare_to_detect(lease(changes.applied(self.node.setups()).values()));
        if let Some(prober) = self.shells.prober.as_ref().filter(|_| is_new) {
            prober.go_on(false);
        }
    }

    /// The same at the start: the pulse begins when the node has closed what the daemon before left open and it does not go
    /// on with.
    pub(super) fn prepare_to_detect(&mut self, lease: Option<Span>) {
        let (Some(lease), Some(shield)) = (lease, &self.shells.shield) else { return };
        if let Some(prober) = &self.shells.prober {
            return prober.set_lease(lease);
        }
        match shield.beat().map_err(std::io::Error::other).and_then(|beat| Prober::start(beat, lease)) {
            Ok(prober) => self.shells.prober = Some(prober),
            // Its leases need a pulse: it will not serve.
            Err(error) => {
                tracing::error!(%error, "there is no detection: groups with `detect` are not served");
            }
        }
    }

    /// The configuration is another one: whoever is asked is asked with the keys of now.
    pub(super) fn watch_anew(&self) {
        for (group, watched) in self.node.watched() {
            self.watch(group.clone(), Some(watched.clone()));
        }
    }

    pub(super) fn watch(&self, group: String, watched: Option<Watched>) {
        let Some(prober) = &self.shells.prober else { return };
        let watched = watched.map(|watched| {
            let means = watched.paths.iter().filter_map(|path| self.means(&group, path)).collect();
            (watched, means)
        });
        prober.watch(group, watched);
    }

    /// With what a path is asked over.
    fn means(&self, group: &str, path: &Path) -> Option<Means> {
        match path.by {
            By::Host { host, link, .. } => {
                Some(Means { link, key: keyring::probe_keys(self.node.setup(host)?, 0).keys[0] })
            }
            By::Sync(_) => {
                let is_of_it = |setup: &&HostSetup| setup.grouped().is_some_and(|its| its.name == group);
                let mut setups = self.node.setups().map(|(_, setup)| setup).filter(is_of_it);
                let aside = setups.find_map(HostSetup::aside)?;
                Some(Means { link: self.shells.shield.as_ref()?.aside()?, key: aside.keys.keys[0] })
            }
        }
    }

    pub(super) fn probed(&mut self, told: Told) {
        match told {
            Told::Sign { group, sign, at } => self.tell(Event::Sign { group: &group, sign, at }),
            Told::PulseLost => {
                tracing::warn!(
                    "this daemon did not run for as long as its lease lasts: every lease of a group with `detect` is over"
                );
                self.tell(Event::PulseLost);
                if let Some(prober) = &self.shells.prober {
                    prober.go_on(false);
                }
            }
        }
    }
}
