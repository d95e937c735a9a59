//! The keys of `[[virtual_host]]` that are about its secrets.

use super::fields::{At, Fields};
use super::mistake::{Mistake, Place};
use super::{Secret, Vip, password, private};
use crate::proto::keyring;
use carp_common::admission::{MAX_DIGESTS, Mode};
use carp_common::auth::{Midstate, StrictKey, Variant};
use carp_common::id::Vhid;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What a virtual host signs with, and how.
pub(super) struct Secrets {
    pub(super) file: PathBuf,
    pub(super) secret: Secret,
    pub(super) next_file: Option<PathBuf>,
    pub(super) next: Option<Secret>,
    pub(super) auth: Mode,
    place: Place,
    next_place: Option<Place>,
}

/// Those of this table, when they are in order.
pub(super) fn read(
    fields: &Fields<'_>,
    read: impl Fn(&Path) -> Result<private::Content, private::Problem>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Secrets> {
    let open = |file: &At<&str>, mistakes: &mut Vec<Mistake>| {
        let path = Path::new(file.value);
        let content = read(path).map_err(password::Problem::from);
        let problem = match content.and_then(|content| Secret::from_content(path, &content)) {
            Ok(secret) => return Some(secret),
            Err(problem) => problem,
        };
        let mistake = Mistake::at(file.place.clone(), problem.to_string(), "this file");
        mistakes.push(mistake.help(problem.help()));
        None
    };
    let file = fields.text("password_file", mistakes);
    let first = file.as_ref().and_then(|file| open(file, mistakes));
    let next_file = fields.optional("next_password_file", mistakes);
    let next = next_file.as_ref().and_then(|file| open(file, mistakes));
    let auth = fields.choice("auth", mistakes).and_then(|auth| Mode::from_name(auth.value));
    let file = file?;
    Some(Secrets {
        file: file.value.into(),
        secret: first?,
        next_file: next_file.as_ref().map(|file| file.value.into()),
        next,
        auth: auth?,
        place: file.place,
        next_place: next_file.map(|file| file.place),
    })
}

impl Secrets {
    /// By what strict adverts are accepted, with the place of each password's file.
    pub(super) fn strict_keys(&self, vips: &[Vip]) -> Vec<(StrictKey, Place)> {
        let vips: Vec<IpAddr> = vips.iter().map(|vip| vip.ip).collect();
        let first = Some((&self.secret, &self.place)).filter(|_| self.auth.signs_strictly());
        let next = first.and(self.next.as_ref().zip(self.next_place.as_ref()));
        let keys = first.into_iter().chain(next);
        keys.map(|(secret, place)| (StrictKey::new(secret.key(), &vips), place.clone())).collect()
    }

    /// Whether the datapath can hold all digests that are to be accepted.
    pub(super) fn check(
        &self,
        vhid: Vhid,
        vips: &[Vip],
        sent: Variant,
        accept: &[Variant],
        mistakes: &mut Vec<Mistake>,
    ) {
        let vips: Vec<IpAddr> = vips.iter().map(|vip| vip.ip).collect();
        let keys = [&self.secret].into_iter().chain(&self.next);
        let mut distinct: Vec<Midstate> = Vec::new();
        for digest in keys.flat_map(|secret| keyring::digests(vhid, &vips, sent, accept, secret.key())) {
            if !distinct.contains(&digest) {
                distinct.push(digest);
            }
        }
        if distinct.len() > MAX_DIGESTS {
            let what =
                format!("{} different digests to accept: each variant under both passwords", distinct.len());
            let place = self.next_place.as_ref().unwrap_or(&self.place).clone();
            let mistake = Mistake::at(place, what, format!("expected at most {MAX_DIGESTS}"));
            mistakes.push(
                mistake.help("leave out `digest`, or the second password once all nodes have the new one"),
            );
        }
    }
}
