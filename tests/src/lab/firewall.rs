//! A gateway that lets in only what it knows.

use super::namespace::Namespace;
use super::process::run_with_input;
use anyhow::Result;
use std::process::Command;

/// Source translation to the WAN's virtual address, and a firewall that lets in only what the LAN began. A packet that
/// fits no connection, or not into its window, ends here.
const RULES: &str = "table ip gateway {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid counter drop
        ct state established,related counter accept
        iifname lan0 tcp flags & (syn|ack) == syn ct state new counter accept
        iifname lan0 ip protocol != tcp ct state new counter accept
    }
    chain sources {
        type nat hook postrouting priority srcnat;
        oifname wan0 counter snat to 10.77.2.1
    }
}
";

/// Puts it up: a connection whose beginning this gateway has not seen, and was not told of, does not go through.
///
/// # Errors
/// When `nft` or the kernel refuses.
pub fn strict(gateway: &Namespace) -> Result<()> {
    gateway.sysctl("netfilter/nf_conntrack_tcp_loose", "0")?;
    run_with_input(Command::new("ip").args(["netns", "exec", gateway.name(), "nft", "--file", "-"]), RULES)
}
