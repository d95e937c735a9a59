//! The first configuration: `carpctl init` on machines with real links, and what carpd makes of it.

use anyhow::{Context, Result};
use carp_common::time::Span;
use carp_tests::lab::Purpose;
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::PATIENCE;
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::pair::Pair;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

const VIPS: &str = "--vip 10.77.1.1/24 --vip fd77:1::1/64 --vip 10.77.2.1/24";
const SECRETS: [&str; 3] = ["lan.password", "wan.password", "sync.key"];

/// Exit code, and all that was said.
fn carpctl(host: &Namespace, words: &str) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(product("carpctl")?);
    command.args(words.split_whitespace()).stdin(Stdio::null());
    let output = host.output(&mut command)?;
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    Ok((output.status.code(), said.concat()))
}

/// A carpd that is not started, and the folder that its files are in.
fn configured(pair: &Pair, host: &Namespace) -> Result<(Carpd, String)> {
    let carpd = Carpd::configure(&pair.lab, host, &Config::gateway())?;
    let folder = carpd.files().carp.parent().context("a folder")?.display().to_string();
    Ok((carpd, folder))
}

fn vhids(folder: &str) -> Result<Vec<u8>> {
    let text = fs::read_to_string(Path::new(folder).join("carp.toml"))?;
    Ok(text.lines().filter_map(|line| line.strip_prefix("vhid = ")?.parse().ok()).collect())
}

#[test]
fn two_nodes_begin_with_what_init_writes_one_as_master_and_one_as_its_backup() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let (mut gw1, first) = configured(&pair, pair.gw1())?;
    let (mut gw2, second) = configured(&pair, pair.gw2())?;
    let name = gw1.instance();
    let init = format!("init --lan lan0 --wan wan0 --output {first} --name {name} --listen 0 --force");
    let (code, said) = carpctl(pair.gw1(), &format!("{init} {VIPS} --sync sync0 --peer 10.77.9.3"))?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("carpctl init --secondary") && said.contains("--peer 10.77.9.2"), "{said}");
    for name in SECRETS {
        let path = Path::new(&first).join(name);
        let secret = fs::read_to_string(&path)?;
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600, "{name}");
        assert!(secret.trim().len() >= 19 && !said.contains(secret.trim()), "{name}");
        fs::copy(&path, Path::new(&second).join(name))?;
    }
    fs::copy(Path::new(&first).join("carp.toml"), Path::new(&second).join("carp.toml"))?;
    let roles = format!("--lan lan0 --wan wan0 --sync sync0 --output {second} --name {}", gw2.instance());
    let (code, said) = carpctl(pair.gw2(), &format!("init --secondary {roles} --peer 10.77.9.2 --force"))?;
    assert_eq!(code, Some(0), "{said}");
    for (host, folder) in [(pair.gw1(), &first), (pair.gw2(), &second)] {
        let (code, said) = carpctl(host, &format!("check {folder}/carp.toml"))?;
        assert!(matches!(code, Some(0 | 4)), "{code:?} {said}");
        let (code, shown) = carpctl(host, &format!("config show {folder}/carp.toml --effective"))?;
        assert!(code == Some(0) && shown.contains("\ntos = 0xe0\n"), "{shown}");
        fs::write(format!("{folder}/whole.toml"), &shown)?;
        let (_, again) = carpctl(host, &format!("config show {folder}/whole.toml --node /dev/null"))?;
        assert!(again.contains("there is no table [node]"), "{again}");
        fs::rename(format!("{folder}/node.toml"), format!("{folder}/own.toml"))?;
        let (code, again) = carpctl(host, &format!("config show {folder}/whole.toml --effective"))?;
        assert_eq!((code, &again), (Some(0), &shown), "what is shown is a configuration again, by itself");
        fs::rename(format!("{folder}/own.toml"), format!("{folder}/node.toml"))?;
    }
    gw1.run()?;
    gw1.wait_role("MASTER", PATIENCE)?;
    gw2.run()?;
    gw2.wait_role("BACKUP", PATIENCE)?;
    gw2.wait_since(Span::secs(4), PATIENCE)?;
    gw1.wait_role("MASTER", PATIENCE)
}

#[test]
fn a_number_that_somebody_on_the_segment_advertises_is_not_taken() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let other = Carpd::start(&pair.lab, pair.gw2(), &Config::gateway())?;
    other.wait_role("MASTER", PATIENCE)?;
    let folder = pair.lab.folder().join("new").display().to_string();
    let init = format!("init --lan lan0 --wan wan0 --output {folder} {VIPS}");
    let (code, said) = carpctl(pair.gw1(), &format!("{init} --listen 3s"))?;
    assert_eq!((code, vhids(&folder)?), (Some(0), vec![3, 4]), "{said}");
    // Only who listens knows.
    let (code, said) = carpctl(pair.gw1(), &format!("{init} --listen 0 --force"))?;
    assert_eq!((code, vhids(&folder)?), (Some(0), vec![1, 2]), "{said}");
    Ok(())
}

#[test]
fn what_cannot_be_written_is_refused_in_words_and_nothing_is_changed() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let folder = pair.lab.folder().join("new").display().to_string();
    let init = |words: &str| carpctl(pair.gw1(), &format!("init --output {folder} --listen 0 {words}"));
    for (words, expected, code) in [
        ("--vip 10.77.1.1/24", &["lan0", "wan0", "--lan"][..], 1),
        ("--lan lna0 --vip 10.77.1.1/24", &["lna0", "lan0", "wan0"], 1),
        ("--lan lan0", &["--vip"], 1),
        ("--lan lan0 --vip 10.77.1.1/24 --sync sync0 --peer 2001:db8::1 --name GW1", &["\"gw1\""], 3),
        ("--lan lan0 --vip 10.77.1.0/24", &["carp.toml", "10.77.1.0/24", "subnet"], 3),
        ("--lan lan0 --secondary", &["carp.toml", "copy it"], 1),
        ("--lan lan0 --secondary --vip 10.77.1.1/24", &["--vip"], 2),
    ] {
        let (found, said) = init(words)?;
        assert_eq!(found, Some(code), "{words}: {said}");
        for word in expected {
            assert!(said.contains(word), "{words}: {word} is not in: {said}");
        }
        assert!(!Path::new(&folder).exists(), "{words} has written something");
    }
    let whole = "--lan lan0 --vip 10.77.1.1/24";
    let (code, said) = init(whole)?;
    assert_eq!(code, Some(0), "{said}");
    let password = Path::new(&folder).join("lan.password");
    let first = fs::read(&password)?;
    let (code, said) = init(whole)?;
    assert!(code == Some(1) && said.contains("lan.password is") | said.contains("lan.password,"), "{said}");
    assert_eq!(fs::read(&password)?, first, "an old password is not replaced");
    // Also when it is the only one that is there.
    for name in ["carp.toml", "node.toml"] {
        fs::remove_file(Path::new(&folder).join(name))?;
    }
    assert_eq!(init(whole)?.0, Some(1));
    assert!(!Path::new(&folder).join("carp.toml").exists());
    let (code, said) = init(&format!("{whole} --force"))?;
    assert!(code == Some(0) && fs::read(&password)? != first, "{said}");
    let names: Vec<_> = fs::read_dir(&folder)?.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names.len(), 3, "nothing is left beside them: {names:?}");
    Ok(())
}
