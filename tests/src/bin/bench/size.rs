//! Virtual hosts in numbers.

use anyhow::Result;
use carp_common::id::Vhid;
use carp_tests::lab::Lab;
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::process::run_with_input;
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

/// As many virtual hosts on each link, with as many addresses each. Their links are `lan0` and so on; the
/// addresses of the first are 10.64.0.0 and so on, of the next 10.65.0.0.
#[derive(Clone, Copy)]
pub struct Size {
    pub links: u8,
    pub hosts: u8,
    pub addresses: u8,
}

impl Size {
    /// A host with the links, whose name begins with this.
    pub fn namespace(self, lab: &Lab, name: &str) -> Result<Namespace> {
        let host = lab.namespace(&format!("{name}{}x{}", self.links, self.hosts))?;
        let mut script = String::new();
        for number in 0..self.links {
            let link = self.link(number);
            let [a, b, ..] = self.net(number).octets();
            // Writing to a String cannot fail.
            writeln!(script, "link add {link} up type veth peer name far{number}").ok();
            writeln!(script, "link set far{number} up").ok();
            writeln!(script, "address add {a}.{b}.255.1/16 dev {link}").ok();
        }
        run_with_input(Command::new("ip").args(["-n", host.name(), "-batch", "-"]), &script)?;
        Ok(host)
    }

    /// The name of a link.
    pub fn link(self, number: u8) -> String {
        format!("lan{number}")
    }

    /// The first address of a link.
    pub fn net(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 64 + number, 0, 0)
    }

    /// The virtual hosts of each link.
    pub fn vhids(self) -> impl Iterator<Item = Vhid> {
        (1..=self.hosts).filter_map(Vhid::new)
    }

    /// The addresses of one, numbered through over all of a link.
    pub fn vips(self, number: u8, vhid: Vhid) -> impl Iterator<Item = IpAddr> {
        let [a, b, ..] = self.net(number).octets();
        let first = u16::from(vhid.get() - 1) * u16::from(self.addresses);
        (first..).take(usize::from(self.addresses)).map(move |address| {
            let [high, low] = address.to_be_bytes();
            Ipv4Addr::new(a, b, high, low).into()
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { links, hosts, addresses } = self;
        write!(f, "{links} x {hosts} x {addresses}")
    }
}
