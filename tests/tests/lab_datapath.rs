//! The datapath of real daemons, seen by a client.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use anyhow::Result;
use carp_common::id::{IfIndex, Vhid};
use carp_common::map::{Counter, Host, HostKey, Vip, VipKey, Window};
use carp_common::time::{Instant, Span};
use carp_tests::lab::capture::Capture;
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::ping::ping;
use carp_tests::lab::{Lab, Purpose};
use carp_user::io::bpf::{self, Attached, Counters, Datapath, Mode, Port, read_pinned};
use std::net::{IpAddr, UdpSocket};

const VIPS: [&str; 2] = ["10.77.1.1", "fd77:1::1"];
const SERVERS: [&str; 2] = ["10.77.2.10", "fd77:2::10"];
const REAL: [&str; 2] = ["10.77.1.2", "fd77:1::2"];
const VIRTUAL_MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 1];
const TRY: Span = Span::millis(300);

#[test]
fn pings_are_answered_by_the_datapath_alone_when_its_virtual_host_says_so() -> Result<()> {
    let duo = Duo::elected(&Config { answer_ping: true, ..Config::gateway() })?;
    let (client, gw1) = (&duo.pair.client, duo.pair.gw1());
    gw1.sysctl("ipv4/icmp_echo_ignore_all", "1")?;
    gw1.sysctl("ipv6/icmp/echo_ignore_all", "1")?;
    let capture = Capture::start(&duo.pair.switch, "lan-gw1")?;
    let begun = clock::now();
    for (vip, real) in VIPS.map(address).into_iter().zip(REAL.map(address)) {
        clock::wait_for("an answer", PATIENCE, || ping(client, vip, TRY).ok().flatten())?;
        assert_eq!(ping(client, real, TRY)?, None, "the kernel of gw1 answers no ping");
    }
    let frames = capture.since(begun);
    let answers: Vec<_> = frames.iter().filter(|(_, frame)| is_answer(frame)).collect();
    assert!(answers.len() >= 2, "both families: {answers:02x?}");
    assert!(answers.iter().all(|(_, frame)| frame[6..12] == VIRTUAL_MAC), "{answers:02x?}");
    assert!(count(&duo, Counter::PingAnswered)? >= 2);
    duo.never_two_masters()
}

#[test]
fn at_tc_beside_another_xdp_program_everything_is_as_at_xdp() -> Result<()> {
    let mut duo = Duo::elected(&Config { answer_ping: true, ..Config::gateway().with_xdp("tcx") })?;
    let mut theirs = Vec::new();
    for gateway in &duo.pair.gateways {
        theirs.push(gateway.xdp_pass("lan0")?);
        theirs.push(gateway.xdp_pass("wan0")?);
        gateway.sysctl("ipv4/icmp_echo_ignore_all", "1")?;
        gateway.sysctl("ipv6/icmp/echo_ignore_all", "1")?;
    }
    let reach_all = |client: &Namespace| -> Result<()> {
        for target in VIPS.into_iter().chain(SERVERS).map(address) {
            clock::wait_for("an answer", PATIENCE, || ping(client, target, TRY).ok().flatten())?;
        }
        Ok(())
    };
    reach_all(&duo.pair.client)?;
    for vip in VIPS {
        let known = duo.pair.client.ip(&format!("neighbour show to {vip} dev eth0"))?;
        assert!(known.contains("00:00:5e:00:01:01"), "{vip} is not at the virtual MAC: {known}");
    }
    let counters =
        [Counter::ArpAnswered, Counter::NdpAnswered, Counter::PingAnswered, Counter::VirtualMacServed];
    for counter in counters {
        assert!(count(&duo, counter)? > 0, "{}", counter.name());
    }
    duo.gw1.kill()?;
    duo.wait_moved()?;
    reach_all(&duo.pair.client)?;
    duo.gw1.run()?;
    duo.wait_as_configured()?;
    reach_all(&duo.pair.client)?;
    duo.never_two_masters()
}

/// Before Linux 5.18 a driver takes no program on a link with such an MTU.
#[test]
fn frames_longer_than_a_page_are_served_and_fenced_in_the_driver_behind_it_and_at_tc() -> Result<()> {
    let in_driver = bpf::program_of_this_kernel() == bpf::PROGRAM;
    let modes =
        [(Mode::Native, Attached::Native), (Mode::Generic, Attached::Generic), (Mode::Tcx, Attached::Tcx)];
    for (mode, attached) in modes.into_iter().filter(|(mode, _)| in_driver || *mode != Mode::Native) {
        let mut cable = Cable::lay(mode)?;
        assert_eq!(cable.datapath.mode_of(cable.link), Some(attached));
        let message: Vec<u8> = (0..8000_u32).map(|at| at.to_be_bytes()[3]).collect();
        cable.datapath.set_window(0, Window::new(Instant::ZERO, Instant::MAX))?;
        assert_eq!(cable.send(&message)?.as_deref(), Some(&message[..]), "{mode:?}");
        cable.datapath.set_window(0, Window::CLOSED)?;
        assert_eq!(cable.send(&message)?, None, "{mode:?}");
        let counters = Counters::sum(cable.datapath.counters()?.values());
        assert_eq!((counters.get(Counter::VipServed), counters.get(Counter::VipFenced)), (1, 1), "{mode:?}");
    }
    Ok(())
}

/// A client at one end, a datapath without a daemon at the other, and a kernel that has the VIP.
struct Cable {
    datapath: Datapath,
    link: IfIndex,
    server: UdpSocket,
    client: UdpSocket,
    _lab: Lab,
}

impl Cable {
    fn lay(mode: Mode) -> Result<Self> {
        let lab = Lab::new(Purpose::Test)?;
        let (client, gateway) = (lab.namespace("client")?, lab.namespace("gw")?);
        let there = gateway.name();
        client.ip(&format!("link add eth0 mtu 9000 type veth peer name gw0 mtu 9000 netns {there}"))?;
        gateway.ip("link set gw0 address 02:00:00:00:00:11 up")?;
        gateway.ip("address add 10.9.0.1/24 dev gw0")?;
        client.ip("link set eth0 up")?;
        client.ip("address add 10.9.0.10/24 dev eth0")?;
        client.ip("neighbour add 10.9.0.1 lladdr 02:00:00:00:00:11 dev eth0 nud permanent")?;
        let link = IfIndex(gateway.ifindex("gw0")?);
        let (instance, port) = (lab.instance("gw"), Port { link, name: "gw0".to_owned(), mode });
        let (mut datapath, _adverts) =
            gateway.enter(|| Ok(Datapath::open(&instance, &[port], |_| Ok(()))?))?;
        let (vhid, vip) = (Vhid::new(1).unwrap(), address("10.9.0.1"));
        let host = Host { slot: 0, link_mac: [2, 0, 0, 0, 0, 0x11], flags: 0 };
        datapath.set_host(HostKey::new(link, vhid), host)?;
        datapath.set_vip(VipKey::new(link, vip), Vip { slot: 0, vhid: 1, flags: 0 })?;
        let server = gateway.enter(|| Ok(UdpSocket::bind((vip, 4000))?))?;
        server.set_read_timeout(Some(TRY.std()))?;
        let client = client.enter(|| Ok(UdpSocket::bind("10.9.0.10:0")?))?;
        Ok(Self { datapath, link, server, client, _lab: lab })
    }

    /// What came of a message to the VIP.
    fn send(&self, message: &[u8]) -> Result<Option<Vec<u8>>> {
        self.client.send_to(message, self.server.local_addr()?)?;
        let mut received = vec![0; 9000];
        Ok(self.server.recv(&mut received).ok().map(|len| received[..len].to_vec()))
    }
}

fn is_answer(frame: &[u8]) -> bool {
    match frame[12..14] {
        [8, 0] => frame[23] == 1 && frame[34] == 0,
        [0x86, 0xdd] => frame[20] == 58 && frame[54] == 129,
        _ => false,
    }
}

/// Of gw1, all virtual hosts together.
fn count(duo: &Duo, counter: Counter) -> Result<u64> {
    Ok(Counters::sum(read_pinned(duo.gw1.instance())?.counters.values()).get(counter))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
