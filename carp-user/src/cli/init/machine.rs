//! The machine that a configuration is made for.

use crate::io::address;
use crate::io::error::Error;
use crate::io::link::{self, Links};
use crate::proto::sync::rule::Prefix;
use anyhow::{Context, Result};
use carp_common::id::IfIndex;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Its interfaces, and their own addresses with their networks.
pub(in crate::cli) struct Machine {
    interfaces: Vec<String>,
    addresses: Vec<(String, IpAddr, Prefix)>,
}

impl Machine {
    /// This one. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// What the kernel says.
    pub(in crate::cli) fn look() -> Result<Self> {
        let interfaces = link::ethernets()?;
        let links = Links::open(&interfaces, BTreeSet::new())?;
        let name = |link: IfIndex| links.name(link).map(str::to_owned);
        let others = address::others().context("reading the addresses of this machine")?;
        let addresses = others
            .into_iter()
            .filter_map(|(held, network)| Some((name(held.link)?, held.address, network)))
            .collect();
        Ok(Self { interfaces, addresses })
    }

    /// Those that CARP can run on, by name.
    pub(in crate::cli) fn interfaces(&self) -> &[String] {
        &self.interfaces
    }

    /// Whether all of these are there.
    ///
    /// # Errors
    /// [`Error::NoSuchLink`], with those that there are.
    pub(in crate::cli) fn has(&self, names: &[String]) -> Result<(), Error> {
        let missing: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| !self.interfaces.iter().any(|known| known == name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::NoSuchLink { names: missing.join(", "), existing: self.interfaces.clone() })
    }

    /// Whether the address is of a network of this interface.
    pub(in crate::cli) fn reaches(&self, interface: &str, address: IpAddr) -> bool {
        self.addresses.iter().any(|(name, _, network)| name == interface && network.contains(address))
    }

    /// Its own address on this interface to speak to the other from: of the same network, else of the same family.
    pub(in crate::cli) fn address_towards(&self, interface: &str, peer: IpAddr) -> Option<IpAddr> {
        let fits =
            |(name, own, _): &&(String, IpAddr, Prefix)| name == interface && own.is_ipv4() == peer.is_ipv4();
        let ours = self.addresses.iter().filter(fits);
        ours.min_by_key(|(_, _, network)| !network.contains(peer)).map(|(_, own, _)| *own)
    }

    #[cfg(test)]
    pub(in crate::cli) fn with(addresses: &[(&str, &str, u8)]) -> Self {
        let interfaces: BTreeSet<String> = addresses.iter().map(|(name, ..)| (*name).to_owned()).collect();
        let addresses = addresses.iter().map(|(name, ip, length)| {
            let ip: IpAddr = ip.parse().expect("an address");
            ((*name).to_owned(), ip, Prefix::new(ip, *length).expect("a length"))
        });
        Self { interfaces: interfaces.into_iter().collect(), addresses: addresses.collect() }
    }
}
