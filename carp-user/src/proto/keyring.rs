//! The secrets of a virtual host at work: signs what is sent, verifies what is heard, and keeps the
//! counter (`carp-protocol` section 2.5).

use super::event::{HostSetup, LinkState};
use super::senders::Senders;
use carp_common::admission::{Addressee, Auth, MAX_DIGESTS, MAX_KEYS, Mode};
use carp_common::auth::{Key, Midstate, ProbeKey, StrictKey, Variant};
use carp_common::id::{IfIndex, Mac, Vhid};
use carp_common::map::{GroupProbes, ProbeKeys};
use carp_common::pace::Pace;
use carp_common::sender::{Challenge, before_first_of};
use carp_common::time::{Instant, Span};
use carp_common::wire::annex::Annex;
use carp_common::wire::carp::{AUTH_LEN, Carp, STRICT_AUTH_LEN, VERSION_TYPE};
use carp_common::wire::{Envelope, Frame, Heard, Refusal, Said};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use zerocopy::IntoBytes;

/// Keyed digests of one virtual host, its counter, and what it knows of other nodes' counters.
#[derive(Clone, Debug)]
pub struct Keyring {
    vhid: Vhid,
    mode: Mode,
    send: Midstate,
    strict: StrictKey,
    /// For newer addresses than those that it signs for, those of now last.
    next: Vec<Next>,
    auth: Auth,
    counter: Counter,
    senders: Senders,
}

/// What signs for addresses that no other node is known to know, and what tells whether another does.
#[derive(Clone, Debug)]
struct Next {
    send: Midstate,
    strict: StrictKey,
    auth: Auth,
}

/// FreeBSD's rule, and never backwards: random steps until a peer's counter is heard, then one more
/// than the last one sent or heard, whoever sent it. Only a counter that is ahead is taken over, so
/// that among nodes of ours the newer of two adverts has the higher counter. A strict counter is the
/// sender's alone, and begins with its epoch.
#[derive(Clone, Debug)]
struct Counter {
    last: Option<u64>,
    heard: bool,
    random: u64,
}

/// What an advert says beside the virtual host, and whose greeting it answers.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// Base and skew, or one of the words.
    pub pace: Pace,
    /// Byte 4.
    pub demote: u8,
    /// Counter of the greeting that this answers; 0 when it answers none.
    pub echo: u64,
}

impl Keyring {
    /// For this virtual host; `seed` starts its random counters, `epoch` its strict ones.
    pub fn new(setup: &HostSetup, seed: u64, epoch: u32) -> Self {
        let vips = setup.signed_vips();
        Self {
            vhid: setup.vhid,
            mode: setup.mode,
            send: digest_of(setup, vips),
            strict: StrictKey::new(&setup.key, vips),
            next: next(setup),
            auth: auth(setup),
            counter: Counter::new(setup.mode, seed, epoch),
            senders: Senders::default(),
        }
    }

    /// The configuration is another one; what it has counted and what it knows of others stays. The link has to be
    /// located anew.
    pub fn configure(&mut self, setup: &HostSetup) {
        let vips = setup.signed_vips();
        self.mode = setup.mode;
        self.send = digest_of(setup, vips);
        self.strict = StrictKey::new(&setup.key, vips);
        self.next = next(setup);
        self.auth = auth(setup);
    }

    /// The strict counter goes on above this one, which another virtual host of this number has used.
    pub fn count_on(&mut self, counter: u64) {
        self.counter.last = self.counter.last.map(|last| last.max(counter));
    }

    /// The last counter that was sent or heard.
    pub const fn counter(&self) -> u64 {
        match self.counter.last {
            Some(last) => last,
            None => 0,
        }
    }

    /// Whether it signs for former addresses.
    pub const fn is_behind(&self) -> bool {
        !self.next.is_empty()
    }

    /// For which newer addresses than this node's adverts an accepted one is signed: the how manieth of
    /// [`HostSetup::newer_vips`].
    pub fn ahead_by(&self, heard: &Heard) -> Option<usize> {
        self.next.iter().rposition(|next| next.auth.admit(heard.seen()).is_ok())
    }

    /// What `seal` seals is signed for the addresses of now, though this node does not sign for them yet.
    pub fn ahead<T>(&mut self, seal: impl FnOnce(&mut Self) -> T) -> T {
        let (send, strict) = (self.send, self.strict);
        if let Some(next) = self.next.last() {
            (self.send, self.strict) = (next.send, next.strict);
        }
        let sealed = seal(self);
        (self.send, self.strict) = (send, strict);
        sealed
    }

    /// The next advert, as this mode signs it.
    pub fn seal(&mut self, envelope: &Envelope, word: Word, from: Mac) -> Frame {
        let counter = self.counter.next();
        let Word { pace: Pace { base, skew }, demote, .. } = word;
        let strictly = self.mode == Mode::Strict;
        let mut header = Carp {
            version_type: VERSION_TYPE,
            vhid: self.vhid.get(),
            skew,
            auth_len: if strictly { STRICT_AUTH_LEN } else { AUTH_LEN },
            demote,
            base,
            checksum: 0.into(),
            counter: counter.into(),
            digest: [0; 20],
        };
        let [source, destination] = envelope.ends();
        let (head, echo) = (header.head(), word.echo.to_be_bytes());
        let said = Said { head, counter: counter.to_be_bytes(), source, destination, echo };
        header.digest = match self.mode {
            Mode::Carp | Mode::Migrate => self.send.digest(said.counter),
            Mode::Strict => self.strict.mac(&said),
        };
        header.sum_up();
        let header = header.as_bytes();
        match self.mode {
            Mode::Carp => envelope.wrap(&[header], from),
            Mode::Migrate => {
                let annex = Annex::new(word.echo, self.strict.mac(&said));
                envelope.wrap(&[header, annex.as_bytes()], from)
            }
            Mode::Strict if word.echo == 0 => envelope.wrap(&[header], from),
            Mode::Strict => envelope.wrap(&[header, &said.echo], from),
        }
    }

    /// The link's own addresses are these, from now on.
    pub fn locate(&mut self, link: &LinkState) {
        self.auth = self.auth.at(link.source_v4, link.source_v6);
        for next in &mut self.next {
            next.auth = next.auth.at(link.source_v4, link.source_v6);
        }
    }

    /// Judges what needs keys, addresses, and memory of other adverts. Without strict counters the
    /// counter of an authentic advert is taken over if it is ahead.
    ///
    /// # Errors
    /// Those of [`Auth::admit`]; `Replay`, `Unproven`, `NotForUs`.
    pub fn admit(&mut self, heard: &Heard, at: Instant) -> Result<Addressee, Refusal> {
        let addressee = self.auth.admit(heard.seen())?;
        if self.mode == Mode::Carp {
            self.counter.hear(heard.advert.counter);
        }
        if addressee == Addressee::Another {
            return Err(Refusal::NotForUs);
        }
        if self.mode == Mode::Strict {
            self.senders.hear(heard, addressee, self.auth.patience(), at)?;
        }
        Ok(addressee)
    }

    /// How adverts are signed.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether an accepted advert is signed strictly, be it beside CARP's digest.
    pub fn is_signed_strictly(&self, heard: &Heard) -> bool {
        self.auth.is_signed_strictly(heard.seen())
    }

    /// Whether this is authentic and to this node alone, be its counter what it may.
    pub fn is_for_us(&self, heard: &Heard) -> bool {
        self.auth.admit(heard.seen()) == Ok(Addressee::Us)
    }

    /// Whether this sender has proved that it lives, where it has to.
    pub fn trusts(&self, sender: IpAddr, now: Instant) -> bool {
        self.mode != Mode::Strict || self.senders.is_fresh(sender, self.auth.patience(), now)
    }

    /// Whether an advert that arrived at `at` and proves nothing may come from one that lives.
    pub fn may_live(&self, sender: IpAddr, at: Instant) -> bool {
        self.senders.may_live(sender, self.auth.patience(), at)
    }

    /// The highest counter that was heard of a sender.
    pub fn counter_of(&self, sender: IpAddr) -> u64 {
        self.senders.counter_of(sender)
    }

    /// Whether to ask this sender for a sign of life now, and that it is done; and for how long it has
    /// not answered.
    pub fn doubt(&mut self, sender: IpAddr, now: Instant) -> (bool, Span) {
        self.senders.doubt(sender, self.auth.patience(), now)
    }

    /// What became of a greeting.
    pub fn asked(&mut self, sender: IpAddr, ok: bool, now: Instant) {
        self.senders.asked(sender, ok, now);
    }

    /// A greeting is about to be sealed: whose answers count from then on, if that changes.
    pub fn challenge(&mut self, now: Instant) -> Option<Challenge> {
        let strictly = self.mode == Mode::Strict;
        self.counter.last.filter(|_| strictly).and_then(|last| self.senders.challenge(last + 1, now))
    }
}

/// What adverts of this virtual host are judged by, here and in the datapath, on a link that has no
/// addresses yet. What is sent goes first: most adverts are signed like ours.
pub fn auth(setup: &HostSetup) -> Auth {
    judged_by(setup, &lists(setup))
}

/// What probes of this virtual host are signed with, by a daemon that started as the how manieth: the key of what is sent
/// first.
pub fn probe_keys(setup: &HostSetup, epoch: u32) -> ProbeKeys {
    let key = |key| ProbeKey::new(key, setup.vhid);
    let next = setup.next_key.as_ref().map(key);
    let count = if next.is_some() { 2 } else { 1 };
    ProbeKeys { keys: [key(&setup.key), next.unwrap_or_default()], count, epoch }
}

/// How a group is asked for over the sync link, if it is: by any of its virtual hosts, given by its slot.
pub fn group_probes<'a>(hosts: impl Iterator<Item = (u32, &'a HostSetup)>) -> BTreeMap<u8, GroupProbes> {
    let mut groups = BTreeMap::<u8, (ProbeKeys, BTreeMap<IfIndex, u32>)>::new();
    for (slot, host) in hosts {
        let Some(aside) = host.aside() else { continue };
        let (_, members) = groups.entry(aside.number).or_insert((aside.keys, BTreeMap::new()));
        members.entry(host.link).or_insert(slot);
    }
    let members = |links: BTreeMap<_, u32>| links.into_values().collect::<Vec<_>>();
    groups
        .into_iter()
        .map(|(number, (keys, links))| (number, GroupProbes::new(keys, &members(links))))
        .collect()
}

/// Whether one virtual host can accept all that its configuration, and the one before it, sign with.
pub fn is_too_much(setup: &HostSetup) -> bool {
    let lists = lists(setup);
    let digests: BTreeSet<_> = accepted(setup, &lists).map(|digest| digest.as_bytes().to_vec()).collect();
    let strict = strict_keys(setup, &lists).count();
    digests.len() > MAX_DIGESTS || strict > MAX_KEYS
}

/// The addresses that adverts may be signed for: those that ours are, first.
fn lists(setup: &HostSetup) -> Vec<&[IpAddr]> {
    let former = setup.former.lists.iter().map(Vec::as_slice);
    let mut lists: Vec<&[IpAddr]> = [setup.vips.as_slice()].into_iter().chain(former).collect();
    lists.sort_by_key(|vips| *vips != setup.signed_vips());
    lists
}

/// Judges by what is signed for these lists, in the families of all.
fn judged_by(setup: &HostSetup, lists: &[&[IpAddr]]) -> Auth {
    let patience = setup.pace.longest_lease();
    Auth::new(&self::lists(setup).concat(), patience, accepted(setup, lists))
        .with_mode(setup.mode, strict_keys(setup, lists))
}

/// The variant that is sent under every key and for all addresses, and then the others.
fn accepted(setup: &HostSetup, lists: &[&[IpAddr]]) -> impl Iterator<Item = Midstate> {
    let keys = move || keys(setup).flat_map(move |key| lists.iter().map(move |vips| (key, *vips)));
    let variants = [setup.digest].into_iter().chain(setup.accept.iter().copied());
    variants.flat_map(move |variant| {
        keys().map(move |(key, vips)| Midstate::new(key, variant, None, setup.vhid, vips))
    })
}

fn strict_keys(setup: &HostSetup, lists: &[&[IpAddr]]) -> impl Iterator<Item = StrictKey> {
    let keys = keys(setup).filter(|_| setup.mode.signs_strictly());
    keys.flat_map(move |key| lists.iter().map(move |vips| StrictKey::new(key, vips)))
}

fn keys(setup: &HostSetup) -> impl Iterator<Item = &Key> {
    [&setup.key].into_iter().chain(&setup.next_key)
}

fn digest_of(setup: &HostSetup, vips: &[IpAddr]) -> Midstate {
    Midstate::new(&setup.key, setup.digest, None, setup.vhid, vips)
}

fn next(setup: &HostSetup) -> Vec<Next> {
    let next = |vips: &[IpAddr]| Next {
        send: digest_of(setup, vips),
        strict: StrictKey::new(&setup.key, vips),
        auth: judged_by(setup, &[vips]),
    };
    setup.newer_vips().map(next).collect()
}

/// The digests that are accepted under one key, the one that is sent first.
pub fn digests(
    vhid: Vhid,
    vips: &[IpAddr],
    sent: Variant,
    accept: &[Variant],
    key: &Key,
) -> impl Iterator<Item = Midstate> {
    let variants = [sent].into_iter().chain(accept.iter().copied());
    variants.map(move |variant| Midstate::new(key, variant, None, vhid, vips))
}

/// Whether a counter is ahead of another one, round the corner of 2^64 (RFC 1982).
pub fn is_ahead(counter: u64, other: u64) -> bool {
    (1..=u64::MAX / 2).contains(&counter.wrapping_sub(other))
}

impl Counter {
    fn new(mode: Mode, random: u64, epoch: u32) -> Self {
        match mode {
            Mode::Carp => Self { last: None, heard: false, random },
            Mode::Migrate | Mode::Strict => Self { last: Some(before_first_of(epoch)), heard: true, random },
        }
    }

    fn next(&mut self) -> u64 {
        let next = match self.last {
            None => self.draw(),
            Some(last) if self.heard => last.wrapping_add(1),
            // Random steps stay far below half the range, so that each value is ahead of the last.
            Some(last) => last.wrapping_add((self.draw() >> 24).max(1)),
        };
        self.last = Some(next);
        next
    }

    fn hear(&mut self, counter: u64) {
        self.heard = true;
        if self.last.is_none_or(|last| is_ahead(counter, last)) {
            self.last = Some(counter);
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): the seed is the caller's randomness.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
