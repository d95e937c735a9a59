//! Interfaces that come, go and are others while a pair serves on the rest, and a kernel that refuses what a new
//! configuration needs.

use anyhow::{Context, Result, ensure};
use carp_common::map::VIPS;
use carp_common::time::Span;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::config::{Config, VirtualHost};
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::scene::Scene;
use carp_tests::lab::{clock, maps, side_by_side};
use std::path::Path;

/// Another cable between the gateways.
fn cable(duo: &Duo, name: &str, net: u8) -> Result<()> {
    let [gw1, gw2] = &duo.pair.gateways;
    gw1.ip(&format!("link add {name} type veth peer name {name} netns {}", gw2.name()))?;
    for (gateway, number) in [(gw1, 2), (gw2, 3)] {
        gateway.ip(&format!("address add 10.77.{net}.{number}/24 dev {name}"))?;
        gateway.ip(&format!("link set {name} up"))?;
    }
    Ok(())
}

/// With a third virtual host on that.
fn with_dmz(config: &Config, device: &'static str) -> Config {
    let mut config = config.clone();
    config.interfaces.push(("dmz", device));
    let addresses = vec!["10.77.3.1/24"];
    config.hosts.push(VirtualHost { interface: "dmz", vhid: 3, addresses, base: 1, skew: 0 });
    config
}

/// gw1 serves the third virtual host on this link, where gw2 is its backup.
fn wait_for_third(duo: &Duo, device: &str) -> Result<()> {
    let is = |gw: &Carpd, role: &str| {
        let hosts = gw.status().unwrap_or_default()["hosts"].as_array().cloned().unwrap_or_default();
        hosts.iter().any(|host| host["interface"] == device && host["role"] == role)
    };
    let held = || duo.gw1.namespace().ip(&format!("address show {device}")).unwrap_or_default();
    clock::wait_for(&format!("a master on {device}"), PATIENCE, || {
        (is(&duo.gw1, "MASTER") && is(&duo.gw2, "BACKUP") && held().contains("10.77.3.1/32")).then_some(())
    })
}

/// What the datapath of gw1 has pinned for links whose name begins so.
fn pinned(duo: &Duo, device: &str) -> Result<Vec<String>> {
    let folder = Path::new("/sys/fs/bpf/carp").join(duo.gw1.instance());
    let names = std::fs::read_dir(folder)?.flatten().map(|entry| entry.file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    Ok(names.filter(|name| name.contains(&format!("-{device}"))).collect())
}

#[test]
fn links_come_and_go_while_the_others_serve() -> Result<()> {
    side_by_side(vec!["auto", "generic", "off"], |xdp| {
        let config = Config::gateway().with_xdp(xdp);
        let mut scene = Scene::new(&config)?;
        for (name, net) in [("dmz0", 3), ("dmz1", 3)] {
            cable(&scene.duo, name, net)?;
        }
        let mut steps = vec![("dmz0", with_dmz(&config, "dmz0")), ("dmz1", with_dmz(&config, "dmz1"))];
        if xdp != "auto" {
            steps.truncate(1);
        }
        for (device, config) in steps {
            scene.reload(&config, device == "dmz1", Span::millis(300)).context(device)?;
            wait_for_third(&scene.duo, device)?;
            scene.untouched().with_context(|| format!("{device}, {xdp}"))?;
        }
        if xdp == "auto" {
            // One of the same name is another link.
            scene.duo.gw1.namespace().ip("link del dmz1")?;
            cable(&scene.duo, "dmz1", 3)?;
            scene.reload(&with_dmz(&config, "dmz1"), false, Span::millis(300))?;
            wait_for_third(&scene.duo, "dmz1")?;
            scene.untouched().context("made anew")?;
        }
        assert_eq!(xdp == "off", pinned(&scene.duo, "dmz").unwrap_or_default().is_empty(), "{xdp}");
        scene.reload(&config, true, Span::millis(300))?;
        clock::wait_for("the programs to be off", PATIENCE, || {
            pinned(&scene.duo, "dmz").map_or(true, |left| left.is_empty()).then_some(())
        })?;
        scene.untouched().context("it leaves")?;
        let addresses = scene.duo.gw1.namespace().ip("address show")?;
        assert!(!addresses.contains("10.77.3.1/"), "{addresses}");
        scene.duo.gw1.stop()?;
        scene.duo.gw2.stop()?;
        Ok(())
    })
}

/// That gw1 refuses this configuration, says so in these words, and goes on with the one that it has.
fn refused(scene: &mut Scene, config: &Config, says: &str) -> Result<()> {
    let gw1 = &scene.duo.gw1;
    let folder = gw1.files().carp.parent().context("a folder")?.to_owned();
    let before = gw1.status()?["hosts"].as_array().map(Vec::len);
    config.write(&folder, gw1.instance())?;
    let output = gw1.carpctl(&["reload"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains(says), "{said}");
    ensure!(gw1.status()?["hosts"].as_array().map(Vec::len) == before);
    scene.untouched()
}

#[test]
fn what_the_kernel_does_not_take_of_the_datapath_changes_nothing() -> Result<()> {
    let config = Config::gateway().with_xdp("generic");
    let mut scene = Scene::new(&config)?;
    let gw1 = scene.duo.gw1.namespace().clone();
    // Somebody else's program, which leaves no room for another one.
    cable(&scene.duo, "dmz0", 3)?;
    let pass = gw1.xdp_pass("dmz0")?;
    refused(&mut scene, &with_dmz(&config, "dmz0"), "dmz0 already has")?;
    drop(pass);
    // The slot is free, and yet the kernel takes none below an interface that has one.
    gw1.ip("link add above0 up type bridge")?;
    gw1.ip("link set dmz0 master above0")?;
    let above = gw1.xdp_pass_generic("above0")?;
    refused(&mut scene, &with_dmz(&config, "dmz0"), "a bridge) has one; set xdp = \"tcx\"")?;
    assert_eq!(pinned(&scene.duo, "dmz")?, Vec::<String>::new(), "the programs are off again");
    drop(above);
    gw1.ip("link del above0")?;
    // One that is no Ethernet.
    refused(&mut scene, &with_dmz(&config, "lo"), "lo")?;
    assert_eq!(pinned(&scene.duo, "lo")?, Vec::<String>::new(), "the programs are off again");
    // The map of VIPs takes nothing more: neither a new one nor one on a new link.
    maps::freeze(scene.duo.gw1.instance(), VIPS)?;
    refused(&mut scene, &with_dmz(&config, "dmz0"), VIPS)?;
    assert_eq!(pinned(&scene.duo, "dmz")?, Vec::<String>::new(), "the programs are off again");
    let mut more = config.clone();
    more.hosts[0].addresses.push("10.77.1.8");
    refused(&mut scene, &more, VIPS)?;
    let file = gw1.output(std::process::Command::new("bridge").args(["fdb", "show", "dev", "dmz0"]))?;
    assert!(!String::from_utf8_lossy(&file.stdout).contains("00:00:5e:00:01:03"));
    Ok(())
}
