//! What is asked on a terminal.

use super::Args;
use super::machine::Machine;
use anyhow::{Result, bail};
use std::io::BufRead;

/// Asks for what is not given; an empty line leaves it so. The questions go to standard error.
///
/// # Errors
/// When no answer can be read, or one makes no sense.
pub(super) fn ask(args: &mut Args, machine: &Machine, mut answers: impl BufRead) -> Result<()> {
    let there = machine.interfaces().join(", ");
    let mut answer = |question: &str| -> Result<Option<String>> {
        eprint!("{question}: ");
        let mut line = String::new();
        if answers.read_line(&mut line)? == 0 {
            bail!("there was no answer");
        }
        let line = line.trim();
        Ok((!line.is_empty()).then(|| line.to_owned()))
    };
    // Who has named interfaces knows what else there is to name.
    let is_new = args.lan.is_none() && args.wan.is_none();
    if is_new {
        eprintln!("Interfaces of this machine: {there}");
        args.lan = answer("Interface on the inside (lan), empty for none")?;
        args.wan = answer("Interface on the outside (wan), empty for none")?;
    }
    if args.vip.is_empty() && !args.secondary {
        let vips = answer("Addresses that both nodes share, such as 10.0.0.1/24, with blanks between them")?;
        args.vip = vips.iter().flat_map(|vips| vips.split_whitespace()).map(str::to_owned).collect();
    }
    if is_new && args.sync.is_none() {
        args.sync = answer("Interface to the other node (sync) to replicate connections, empty for none")?;
        if args.sync.is_some() {
            let peer = answer("The other node's address on it")?.unwrap_or_default();
            let Ok(peer) = peer.parse() else { bail!("\"{peer}\" is no address") };
            args.peer = Some(peer);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn asked(given: &[&str], answers: &str) -> Result<Args> {
        let mut args = Line::try_parse_from([&["init"], given].concat())?.args;
        ask(&mut args, &Machine::with(&[("eth0", "10.0.0.2", 24)]), answers.as_bytes())?;
        Ok(args)
    }

    #[test]
    fn what_is_not_given_is_asked_for_and_what_is_given_is_not() {
        let args = asked(&[], "\n eth0 \n10.0.0.1/24  fd00::1\neth2\n10.255.0.2\n").expect("answered");
        assert_eq!((args.lan.as_deref(), args.wan.as_deref()), (None, Some("eth0")));
        assert_eq!(args.vip, ["10.0.0.1/24", "fd00::1"]);
        assert_eq!((args.sync.as_deref(), args.peer), (Some("eth2"), "10.255.0.2".parse().ok()));
        let args = asked(&["--lan", "eth0"], "10.0.0.1\n").expect("one question is left");
        assert_eq!((args.vip, args.wan, args.sync), (vec!["10.0.0.1".to_owned()], None, None));
        assert!(asked(&["--lan", "eth0", "--secondary"], "").is_ok(), "the other node has the addresses");
    }

    #[test]
    fn no_answer_and_one_that_is_no_address_are_errors() {
        assert!(asked(&[], "eth0\n").is_err());
        let said = asked(&[], "eth0\n\n10.0.0.1\neth2\ngw2\n").expect_err("no address");
        assert_eq!(said.to_string(), "\"gw2\" is no address");
    }
}
