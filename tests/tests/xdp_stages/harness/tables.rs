//! The tables of virtual hosts and VIPs, written in the kernel and on the host alike.

use super::{Kernel, LINK, LINK_MAC};
use aya::maps::Array;
use carp_common::id::{IfIndex, Vhid};
use carp_common::map::{
    HOSTS, Host, HostKey, LINK_STEPS, LINKS, Link, MAX_HOSTS, VIP_INDEX, VIP_STEPS, VIPS, Vip, VipBlock,
    VipEntry, VipKey,
};
use carp_user::io::bpf::Changed;
use std::net::IpAddr;

impl Kernel {
    pub fn set_host(&mut self, link: IfIndex, vhid: u8, slot: u32) {
        self.set_host_entry(link, vhid, Host { slot, link_mac: LINK_MAC, flags: 0 });
    }

    pub fn set_host_entry(&mut self, link: IfIndex, vhid: u8, host: Host) {
        let key = HostKey::new(link, Vhid::new(vhid).unwrap());
        // An entry of a slot that cannot be stands where one of a slot that can be would.
        let place =
            self.hosts.set(&key, Host { slot: host.slot % MAX_HOSTS, ..host }).expect("there is room");
        self.write_link(place);
        self.write_host(host.slot % MAX_HOSTS, host);
        self.twin.set_host(key, Some(host));
    }

    pub fn remove_host(&mut self, vhid: u8) {
        let key = HostKey::new(LINK, Vhid::new(vhid).unwrap());
        if let Some(place) = self.hosts.remove(&key) {
            self.write_link(place);
        }
        self.twin.set_host(key, None);
    }

    pub fn set_vip(&mut self, vip: IpAddr, entry: Vip) {
        let key = VipKey::new(LINK, vip);
        let changed = self.vips.set(key, entry).expect("there is room");
        self.write(changed);
        self.twin.set_vip(key, Some(entry));
    }

    pub fn remove_vip(&mut self, vip: IpAddr) {
        let key = VipKey::new(LINK, vip);
        if let Some(changed) = self.vips.remove(&key) {
            self.write(changed);
        }
        self.twin.set_vip(key, None);
    }

    /// Removes a VIP, and puts as many others at its first places: the same address on other links.
    pub fn crowd(&mut self, vip: IpAddr, others: usize) {
        self.remove_vip(vip);
        let key = VipKey::new(LINK, vip);
        let is_alike = |other: &VipKey| other.place(0) == key.place(0);
        let search = || {
            let elsewhere = (LINK.0 + 1..).map(|link| VipKey::new(IfIndex(link), vip));
            elsewhere.filter(is_alike).take(VIP_STEPS as usize).collect()
        };
        let alike = self.alike.entry(vip).or_insert_with(search).clone();
        let gone: Vec<_> = alike.iter().filter_map(|other| self.vips.remove(other)).collect();
        let entry = Vip { slot: 0, vhid: 255, flags: Host::ANSWER_PING };
        let come: Vec<_> =
            alike.iter().take(others).filter_map(|other| self.vips.set(*other, entry)).collect();
        assert_eq!(come.len(), others);
        gone.into_iter().chain(come).for_each(|changed| self.write(changed));
    }

    /// Removes the virtual hosts of the frames' link, and puts as many other links at its first places.
    pub fn crowd_link(&mut self, others: usize) {
        (1..=u8::MAX).for_each(|vhid| self.remove_host(vhid));
        let is_alike = |link: &IfIndex| Link::place(*link, 0) == Link::place(LINK, 0);
        let alike = (LINK.0 + 1..).map(IfIndex).filter(is_alike).take(LINK_STEPS as usize);
        for (number, link) in alike.enumerate() {
            let key = HostKey::new(link, Vhid::new(255).unwrap());
            let host = Host { slot: 0, link_mac: LINK_MAC, flags: Host::ANSWER_PING };
            let gone = self.hosts.remove(&key);
            let come = (number < others).then(|| self.hosts.set(&key, host).expect("there is room"));
            gone.into_iter().chain(come).for_each(|place| self.write_link(place));
        }
    }

    fn write(&mut self, Changed { number, block }: Changed) {
        let entries = Array::<_, VipEntry>::try_from(self.ebpf.map_mut(VIPS).unwrap());
        entries.unwrap().set(u32::from(number), self.vips.entry(number), 0).unwrap();
        let index = Array::<_, VipBlock>::try_from(self.ebpf.map_mut(VIP_INDEX).unwrap());
        index.unwrap().set(block, self.vips.block(block), 0).unwrap();
    }

    fn write_link(&mut self, place: u32) {
        let links = Array::<_, Link>::try_from(self.ebpf.map_mut(LINKS).unwrap());
        links.unwrap().set(place, self.hosts.link(place), 0).unwrap();
    }

    fn write_host(&mut self, slot: u32, host: Host) {
        let hosts = Array::<_, Host>::try_from(self.ebpf.map_mut(HOSTS).unwrap());
        hosts.unwrap().set(slot, host, 0).unwrap();
    }
}
