//! The numbers of ctnetlink's messages and attributes. A test compares them with the kernel's header.

/// Declares the constants, and lists them by name for the test.
macro_rules! numbers {
    ($($name:ident = $value:literal,)*) => {
        $(pub(super) const $name: u16 = $value;)*
        #[cfg(test)]
        const ALL: &[(&str, u16)] = &[$((stringify!($name), $name)),*];
    };
}

numbers! {
    // Messages about flows.
    IPCTNL_MSG_CT_NEW = 0,
    IPCTNL_MSG_CT_GET = 1,
    IPCTNL_MSG_CT_DELETE = 2,
    IPCTNL_MSG_CT_GET_STATS = 5,
    // Messages about expectations.
    IPCTNL_MSG_EXP_NEW = 0,
    IPCTNL_MSG_EXP_GET = 1,
    IPCTNL_MSG_EXP_DELETE = 2,
    // A flow.
    CTA_TUPLE_ORIG = 1,
    CTA_TUPLE_REPLY = 2,
    CTA_STATUS = 3,
    CTA_PROTOINFO = 4,
    CTA_HELP = 5,
    CTA_NAT_SRC = 6,
    CTA_TIMEOUT = 7,
    CTA_MARK = 8,
    CTA_NAT_DST = 13,
    CTA_TUPLE_MASTER = 14,
    CTA_SEQ_ADJ_ORIG = 15,
    CTA_SEQ_ADJ_REPLY = 16,
    CTA_ZONE = 18,
    CTA_LABELS = 22,
    CTA_LABELS_MASK = 23,
    // One direction.
    CTA_TUPLE_IP = 1,
    CTA_TUPLE_PROTO = 2,
    CTA_TUPLE_ZONE = 3,
    CTA_IP_V4_SRC = 1,
    CTA_IP_V4_DST = 2,
    CTA_IP_V6_SRC = 3,
    CTA_IP_V6_DST = 4,
    CTA_PROTO_NUM = 1,
    CTA_PROTO_SRC_PORT = 2,
    CTA_PROTO_DST_PORT = 3,
    CTA_PROTO_ICMP_ID = 4,
    CTA_PROTO_ICMP_TYPE = 5,
    CTA_PROTO_ICMP_CODE = 6,
    CTA_PROTO_ICMPV6_ID = 7,
    CTA_PROTO_ICMPV6_TYPE = 8,
    CTA_PROTO_ICMPV6_CODE = 9,
    // What trackers know.
    CTA_PROTOINFO_TCP = 1,
    CTA_PROTOINFO_SCTP = 3,
    CTA_PROTOINFO_TCP_STATE = 1,
    CTA_PROTOINFO_TCP_WSCALE_ORIGINAL = 2,
    CTA_PROTOINFO_TCP_WSCALE_REPLY = 3,
    CTA_PROTOINFO_TCP_FLAGS_ORIGINAL = 4,
    CTA_PROTOINFO_TCP_FLAGS_REPLY = 5,
    CTA_PROTOINFO_SCTP_STATE = 1,
    CTA_PROTOINFO_SCTP_VTAG_ORIGINAL = 2,
    CTA_PROTOINFO_SCTP_VTAG_REPLY = 3,
    // Translation.
    CTA_NAT_V4_MINIP = 1,
    CTA_NAT_V4_MAXIP = 2,
    CTA_NAT_PROTO = 3,
    CTA_NAT_V6_MINIP = 4,
    CTA_NAT_V6_MAXIP = 5,
    CTA_PROTONAT_PORT_MIN = 1,
    CTA_PROTONAT_PORT_MAX = 2,
    CTA_SEQADJ_CORRECTION_POS = 1,
    CTA_SEQADJ_OFFSET_BEFORE = 2,
    CTA_SEQADJ_OFFSET_AFTER = 3,
    CTA_HELP_NAME = 1,
    // An expectation.
    CTA_EXPECT_MASTER = 1,
    CTA_EXPECT_TUPLE = 2,
    CTA_EXPECT_MASK = 3,
    CTA_EXPECT_TIMEOUT = 4,
    CTA_EXPECT_HELP_NAME = 6,
    CTA_EXPECT_ZONE = 7,
    CTA_EXPECT_FLAGS = 8,
    CTA_EXPECT_CLASS = 9,
    CTA_EXPECT_NAT = 10,
    CTA_EXPECT_FN = 11,
    CTA_EXPECT_NAT_DIR = 1,
    CTA_EXPECT_NAT_TUPLE = 2,
    // Counts.
    CTA_STATS_GLOBAL_ENTRIES = 1,
}

/// `NFNL_SUBSYS_CTNETLINK` and `NFNL_SUBSYS_CTNETLINK_EXP`, where they stand in a message's type.
pub(super) const FLOWS: u16 = 1 << 8;
pub(super) const EXPECTATIONS: u16 = 2 << 8;

/// The six multicast groups, as bits: `NFNLGRP_CONNTRACK_NEW`, `_UPDATE`, `_DESTROY` and `_EXP_*` likewise.
pub(super) const GROUPS: u32 = 0b11_1111;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const HEADER: &str = "/usr/include/linux/netfilter/nfnetlink_conntrack.h";

    /// The values of all enumerators, by counting as C does.
    fn enumerators(header: &str) -> BTreeMap<&str, u16> {
        let mut found = BTreeMap::new();
        let mut next = None;
        for line in header.lines().map(|line| line.split("/*").next().unwrap_or_default().trim()) {
            if line.starts_with("enum ") {
                next = Some(0);
            } else if line.starts_with('}') {
                next = None;
            } else if let (Some(value), false) = (next, line.is_empty() || line.starts_with('#')) {
                let (name, alias) = match line.trim_end_matches(',').split_once('=') {
                    Some((name, alias)) => (name.trim(), Some(alias.trim())),
                    None => (line.trim_end_matches(','), None),
                };
                let value = alias.map_or(value, |alias| found[alias]);
                found.insert(name, value);
                next = Some(value + 1);
            }
        }
        found
    }

    #[test]
    fn every_number_is_that_of_the_kernels_header() {
        let Ok(header) = std::fs::read_to_string(HEADER) else {
            println!("skipped: {HEADER} is not installed");
            return;
        };
        let there = enumerators(&header);
        assert!(there.len() > 100, "the header was not understood: {there:?}");
        for (name, value) in ALL {
            assert_eq!(there.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn groups_and_subsystems_are_those_of_libc() {
        let groups = [
            libc::NFNLGRP_CONNTRACK_NEW,
            libc::NFNLGRP_CONNTRACK_UPDATE,
            libc::NFNLGRP_CONNTRACK_DESTROY,
            libc::NFNLGRP_CONNTRACK_EXP_NEW,
            libc::NFNLGRP_CONNTRACK_EXP_UPDATE,
            libc::NFNLGRP_CONNTRACK_EXP_DESTROY,
        ];
        assert_eq!(groups.iter().fold(0, |mask, group| mask | 1 << (group - 1)), GROUPS);
        assert_eq!(i32::from(FLOWS >> 8), libc::NFNL_SUBSYS_CTNETLINK);
        assert_eq!(i32::from(EXPECTATIONS >> 8), libc::NFNL_SUBSYS_CTNETLINK_EXP);
    }
}
