//! What is asked for, and the files that follow from it. Does no IO but to draw secrets.

use super::super::genkey;
use super::Args;
use super::listening::Heard;
use super::machine::Machine;
use crate::config::password::MAX_PASSWORD;
use crate::config::render::quoted;
use crate::io::clock;
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use zeroize::Zeroizing;

/// The file that both nodes share.
pub(in crate::cli) const SHARED: &str = "carp.toml";
/// The file of one node.
pub(in crate::cli) const OWN: &str = "node.toml";
/// The file with the key of the session.
pub(in crate::cli) const SYNC_KEY: &str = "sync.key";
/// Both sides of a gateway have one role, and what says so of a virtual host.
const GROUP: (&str, &str) = (
    "
# Both sides move as one (docs/groups.md). With nodes of another make in it: move = \"each\"
[[group]]
name = \"gateway\"
",
    "group = \"gateway\"\n",
);
/// What pfSense gives its secondary, too.
const SECONDARY_SKEW: u8 = 100;

/// What this node and its virtual hosts are to be.
pub(super) struct Plan {
    name: String,
    is_secondary: bool,
    roles: Vec<Role>,
    lowest: u8,
    sync: Option<Link>,
}

/// An interface with what it is for, and the VIPs on it.
struct Role {
    name: &'static str,
    password_file: &'static str,
    device: String,
    vips: Vec<String>,
}

/// To the other node.
pub(in crate::cli) struct Link {
    pub(in crate::cli) device: String,
    pub(in crate::cli) own: IpAddr,
    pub(in crate::cli) peer: IpAddr,
}

/// A file that is not written yet.
pub(in crate::cli) struct NewFile {
    pub(in crate::cli) name: String,
    pub(in crate::cli) text: Zeroizing<String>,
}

impl NewFile {
    /// Whether nobody but its owner may see it.
    pub(in crate::cli) fn is_secret(&self) -> bool {
        self.name != SHARED && self.name != OWN
    }
}

impl Plan {
    /// From what is given.
    ///
    /// # Errors
    /// When something is missing, or an address could be on either interface, or on none.
    pub(super) fn of(args: &Args, machine: &Machine) -> Result<Self> {
        let role = |name, password_file, device: &Option<String>| {
            device.clone().map(|device| Role { name, password_file, device, vips: Vec::new() })
        };
        let lan = role("lan", "lan.password", &args.lan);
        let mut roles: Vec<Role> = lan.into_iter().chain(role(OUTSIDE, "wan.password", &args.wan)).collect();
        let there = machine.interfaces().join(", ");
        if roles.is_empty() {
            bail!("name an interface for the addresses, with --lan, --wan or both; there are: {there}");
        }
        if args.vip.is_empty() && !args.secondary {
            bail!(
                "name the addresses that both nodes are to share, each with --vip, such as --vip 10.0.0.1/24"
            );
        }
        for vip in &args.vip {
            let (role, vip) = place(&mut roles, vip, machine)?;
            role.vips.push(vip.to_owned());
        }
        let sync = args.sync.as_ref().zip(args.peer);
        let sync = sync.map(|(device, peer)| {
            machine.has(std::slice::from_ref(device))?;
            let own = machine.address_towards(device, peer);
            let own = own.with_context(|| {
                format!("{device} has no address to reach {peer} from: give it one first (ip address add)")
            })?;
            Ok::<_, anyhow::Error>(Link { device: device.clone(), own, peer })
        });
        let name = args.name.clone().unwrap_or_else(|| if args.secondary { "gw2" } else { "gw1" }.to_owned());
        Ok(Self { name, is_secondary: args.secondary, roles, lowest: args.vhid, sync: sync.transpose()? })
    }

    /// The interfaces that carry VIPs.
    pub(super) fn devices(&self) -> Vec<String> {
        self.roles.iter().map(|role| role.device.clone()).collect()
    }

    /// What the files will be called.
    pub(super) fn names(&self) -> Vec<&'static str> {
        if self.is_secondary {
            return vec![OWN];
        }
        let passwords = self.serving().map(|role| role.password_file);
        passwords.chain(self.sync.as_ref().map(|_| SYNC_KEY)).chain([SHARED, OWN]).collect()
    }

    /// The files, with numbers that nobody was heard to use, and new secrets.
    ///
    /// # Errors
    /// When all numbers are taken.
    pub(super) fn files(&self, heard: &Heard) -> Result<Vec<NewFile>> {
        let file = |name| {
            let text = match name {
                OWN => Zeroizing::new(self.own()),
                SHARED => Zeroizing::new(self.shared(heard)?),
                SYNC_KEY => genkey::key()?,
                _password => password()?,
            };
            Ok(NewFile { name: name.to_owned(), text })
        };
        self.names().into_iter().map(file).collect()
    }

    /// What is to be done with them.
    pub(super) fn next_steps(&self, folder: &Path, files: &[NewFile]) -> String {
        let folder = folder.display();
        let wrote: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let mut text = format!("{folder}: wrote {}\n\nNext:\n", wrote.join(", "));
        let mut step = |what: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {what}");
        };
        step(&format!("carpctl check {folder}/{SHARED}   # whether all of it fits this machine"));
        if !self.is_secondary {
            let files = wrote.iter().filter(|name| **name != OWN).map(|name| format!("{folder}/{name}"));
            step(&format!(
                "scp -p {} OTHER:{folder}/   # by a way that nobody listens to",
                files.collect::<Vec<_>>().join(" ")
            ));
            let roles: Vec<String> = self.roles.iter().map(|role| format!("--{} IFACE", role.name)).collect();
            let sync = self
                .sync
                .as_ref()
                .map(|link| format!(" --sync IFACE --peer {}", link.own))
                .unwrap_or_default();
            step(&format!("carpctl init --secondary {}{sync}   # on the other node", roles.join(" ")));
        }
        step(&format!("carpd --config {folder}/{SHARED} --node {folder}/{OWN}"));
        text
    }

    fn serving(&self) -> impl Iterator<Item = &Role> {
        self.roles.iter().filter(|role| !role.vips.is_empty())
    }

    fn shared(&self, heard: &Heard) -> Result<String> {
        let mut text = SHARED_HEAD.to_owned();
        let (group, member) = if self.serving().count() > 1 { GROUP } else { ("", "") };
        text.push_str(group);
        let mut free = (self.lowest..=u8::MAX).filter(|number| !heard.numbers.contains(number));
        let listened = heard.span.map(|span| format!(" Nobody was heard to use it, for {span}."));
        let listened = listened.unwrap_or_default();
        for Role { name, password_file, vips, .. } in self.serving() {
            let vhid =
                free.next().with_context(|| format!("no number from {} to 255 is free", self.lowest))?;
            let vips: Vec<String> = vips.iter().map(|vip| quoted(vip)).collect();
            let vips = vips.join(", ");
            let _ = write!(
                text,
                "\n[[virtual_host]]\ninterface = \"{name}\"\n{member}\
                 # Its number among CARP and VRRP on the segment.{listened}\nvhid = {vhid}\n\
                 # The addresses that the master has.\naddresses = [{vips}]\n\
                 # The same on all nodes, mode 0600.\npassword_file = \"{password_file}\"\n"
            );
            if *name == OUTSIDE && self.serving().count() > 1 {
                text.push_str(SNAT);
            }
        }
        if self.serving().count() > 1 || self.sync.is_some() {
            text.push_str(KERNEL);
        }
        Ok(text)
    }

    fn own(&self) -> String {
        let skew = if self.is_secondary { SECONDARY_SKEW } else { 0 };
        let sync = self.sync.as_ref().map(|link| ("sync", link.device.as_str()));
        let roles = self.roles.iter().map(|role| (role.name, role.device.as_str())).chain(sync);
        node_file(&self.name, skew, roles, self.sync.as_ref())
    }
}

/// The file of one node. With a link to the other one `sync` has to be among the roles.
pub(in crate::cli) fn node_file<'a>(
    name: &str,
    skew: u8,
    roles: impl Iterator<Item = (&'a str, &'a str)>,
    sync: Option<&Link>,
) -> String {
    let mut text = format!("{OWN_HEAD}name = {}\n{SKEW_COMMENT}skew = {skew}\n{ROLES_HEAD}", quoted(name));
    for (role, device) in roles {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{role} = {}", quoted(device));
    }
    if let Some(Link { own, peer, .. }) = sync {
        let _ = write!(
            text,
            "{SYNC_HEAD}interface = \"sync\"\naddress = \"{own}\"\npeer = \"{peer}\"\nkey_file = \"{SYNC_KEY}\"\n"
        );
    }
    text
}

/// Where a VIP goes, and the VIP without the role in front of it.
fn place<'a, 'b>(roles: &'a mut [Role], vip: &'b str, machine: &Machine) -> Result<(&'a mut Role, &'b str)> {
    let named = vip.split_once(':').filter(|(role, _)| ["lan", "wan"].contains(role));
    let (wanted, vip) = named.map_or((None, vip), |(role, vip)| (Some(role), vip));
    let only = roles.len() == 1;
    // What is no address is told with its place in the file.
    let ip = vip.split_once('/').map_or(vip, |(ip, _)| ip).parse::<IpAddr>().ok();
    let fits = |role: &&mut Role| match wanted {
        Some(wanted) => role.name == wanted,
        None => only || ip.is_some_and(|ip| machine.reaches(&role.device, ip)),
    };
    let mut fitting = roles.iter_mut().filter(fits);
    match (fitting.next(), fitting.next(), wanted) {
        (Some(role), None, _) => Ok((role, vip)),
        (_, _, Some(wanted)) => bail!("{wanted}:{vip}: name the interface too, with --{wanted}"),
        (None, _, None) => bail!("{vip} is of no network of these interfaces: write lan:{vip} or wan:{vip}"),
        (Some(_), Some(_), None) => {
            bail!("{vip} is of networks of both interfaces: write lan:{vip} or wan:{vip}")
        }
    }
}

/// As many letters as there may be, of 64 that need no care anywhere: 114 bits.
fn password() -> Result<Zeroizing<String>> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut drawn = Zeroizing::new([0_u8; MAX_PASSWORD]);
    clock::draw(&mut drawn[..])?;
    // Room for all, so that no copy is left behind unwiped.
    let mut text = Zeroizing::new(String::with_capacity(MAX_PASSWORD + 1));
    text.extend(drawn.iter().map(|byte| char::from(LETTERS[usize::from(byte % 64)])));
    text.push('\n');
    Ok(text)
}

const SHARED_HEAD: &str = "\
# What both nodes share: this file, and those with the passwords, are the same on both. It speaks of roles; which
# interface has a role on a node says node.toml there. Every key: docs/config.md. After a change: carpctl check
";
/// The role of the outside.
const OUTSIDE: &str = "wan";
const SNAT: &str = "\
# With this, what comes from inside and leaves here gets the first IPv4 address as its source.
# snat = \"vip\"
";
const KERNEL: &str = "
# What the kernel does while carpd runs: a gateway forwards.
[kernel]
forwarding = true
";
const OWN_HEAD: &str = "\
# What is of this node alone.
[node]
";
const SKEW_COMMENT: &str = "# The node with the smallest leads.\n";
const ROLES_HEAD: &str = "
# Which interface has which role here.
[node.interfaces]
";
const SYNC_HEAD: &str = "
# The other node: tracked connections live on when it takes over. The key is the same on both, mode 0600.
[sync]
";

#[cfg(test)]
mod tests {
    use super::*;
    use carp_common::time::Span;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn plan(line: &str) -> Result<Plan> {
        let machine = Machine::with(&[
            ("eth1", "10.0.0.2", 24),
            ("eth0", "192.0.2.2", 24),
            ("eth0", "fd00::2", 64),
            ("eth2", "10.255.0.1", 30),
            ("eth2", "10.9.0.1", 24),
        ]);
        let args = Line::try_parse_from(["init"].into_iter().chain(line.split_whitespace()))?.args;
        Plan::of(&args, &machine)
    }

    fn refused(line: &str) -> String {
        plan(line).err().expect("refused").to_string()
    }

    #[test]
    fn an_address_goes_where_its_network_is_or_where_it_is_told_to_or_to_the_only_place() {
        let vips = |line| {
            let roles = plan(line).expect("right").roles;
            roles.iter().map(|role| format!("{} {}", role.name, role.vips.join(" "))).collect::<Vec<_>>()
        };
        let both =
            "--lan eth1 --wan eth0 --vip 192.0.2.1/24 --vip 10.0.0.1/24 --vip fd00::1 --vip lan:10.7.0.1/24";
        assert_eq!(vips(both), ["lan 10.0.0.1/24 10.7.0.1/24", "wan 192.0.2.1/24 fd00::1"]);
        assert_eq!(vips("--wan eth0 --vip 10.7.0.1"), ["wan 10.7.0.1"]);
        assert!(refused("--lan eth1 --wan eth0 --vip 10.7.0.1/24").contains("write lan:10.7.0.1/24 or wan:"));
        assert!(refused("--lan eth1 --wan eth1 --vip 10.0.0.1").contains("of both interfaces"));
        assert!(refused("--lan eth1 --vip wan:10.0.0.1").contains("with --wan"));
    }

    #[test]
    fn what_is_missing_is_named_with_what_there_is() {
        assert!(refused("--vip 10.0.0.1").ends_with("there are: eth0, eth1, eth2"));
        assert!(refused("--lan eth1").contains("--vip 10.0.0.1/24"));
        assert!(refused("--lan eth1 --vip 10.0.0.1 --sync eth2").contains("--peer"));
        let peer = "--lan eth1 --vip 10.0.0.1 --sync eth2 --peer";
        assert!(refused(&format!("{peer} fd00::2")).contains("eth2 has no address to reach fd00::2 from"));
        let sync = plan(&format!("{peer} 10.255.0.2")).expect("right").sync.expect("a link");
        assert_eq!(sync.own.to_string(), "10.255.0.1");
    }

    #[test]
    fn a_number_that_is_heard_is_not_taken_nor_one_below_the_lowest() {
        let plan =
            plan("--lan eth1 --wan eth0 --vip 192.0.2.1/24 --vip 10.0.0.1/24 --vhid 7").expect("right");
        let numbers = |heard: &[u8]| {
            let heard = Heard { numbers: heard.iter().copied().collect(), span: Some(Span::secs(3)) };
            let text = plan.shared(&heard)?;
            Ok::<_, anyhow::Error>(
                text.lines().filter_map(|line| line.strip_prefix("vhid = ")?.parse().ok()).collect(),
            )
        };
        let found: Vec<u8> = numbers(&[1, 8]).expect("free");
        assert_eq!(found, [7, 9]);
        let all: Vec<u8> = (8..=255).collect();
        assert!(
            numbers(&all).expect_err("one is left").to_string().contains("no number from 7 to 255 is free")
        );
    }

    #[test]
    fn a_password_has_nineteen_letters_and_is_another_each_time() {
        let [one, other] = [password().expect("drawn"), password().expect("drawn")];
        assert_eq!(one.trim_end().len(), MAX_PASSWORD);
        assert!(
            *one != *other && one.trim_end().chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        );
    }
}
