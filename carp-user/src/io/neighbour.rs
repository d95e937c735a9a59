//! Neighbours that could not be resolved. While a node does not serve, nobody answers what it asks for on behalf of others; an
//! entry that is INCOMPLETE or FAILED then keeps packets waiting, for up to three seconds after it has taken over.

use super::netlink::{Request, Requests, attributes, replies, u32_at};
use carp_common::id::IfIndex;
use std::collections::BTreeSet;
use std::io;

/// Most entries that are removed at a time. Policy for more: they wait for the kernel, as without this.
const MOST: usize = 4096;
/// Bytes in `struct ndmsg`.
const NDMSG: usize = 12;
/// Answers as if no family were given: all of them.
const AF_UNSPEC: u8 = 0;

/// Removes what is not resolved on these links; the next packet asks anew. How many there were.
///
/// # Errors
/// What the kernel says.
pub fn forget_unresolved(links: &BTreeSet<IfIndex>) -> io::Result<usize> {
    let mut requests = Requests::open()?;
    let entries = requests.dump(libc::RTM_GETNEIGH, &[AF_UNSPEC; NDMSG])?;
    let unresolved = replies(&entries).filter_map(|reply| unresolved(reply.body, links));
    let unresolved: Vec<Request> = unresolved.take(MOST).collect();
    let count = unresolved.len();
    for request in unresolved {
        match requests.ask(request) {
            // It was resolved, or is gone, meanwhile.
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(count)
}

/// What removes this entry, if it is one of those.
fn unresolved(body: &[u8], links: &BTreeSet<IfIndex>) -> Option<Request> {
    let header = body.get(..NDMSG)?;
    let state = u16::from_ne_bytes(*header.get(8..)?.first_chunk()?);
    let link = IfIndex(u32_at(body, 4)?);
    let is_unresolved = state & (libc::NUD_INCOMPLETE | libc::NUD_FAILED) != 0;
    let (_, address) = attributes(body.get(NDMSG..)?).find(|(kind, _)| *kind == libc::NDA_DST)?;
    (is_unresolved && links.contains(&link))
        .then(|| Request::new(libc::RTM_DELNEIGH, 0, header).with(libc::NDA_DST, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(link: u32, state: u16) -> Vec<u8> {
        let mut body = vec![2, 0, 0, 0];
        body.extend(link.to_ne_bytes());
        body.extend(state.to_ne_bytes());
        body.extend([0, 1]);
        body.extend([8_u16.to_ne_bytes(), libc::NDA_DST.to_ne_bytes()].concat());
        body.extend([10, 0, 0, 7]);
        body
    }

    #[test]
    fn only_what_is_not_resolved_on_the_links_of_virtual_hosts_is_removed() {
        let links = BTreeSet::from([IfIndex(7)]);
        let removes = |link, state| unresolved(&entry(link, state), &links).is_some();
        assert!(removes(7, libc::NUD_FAILED) && removes(7, libc::NUD_INCOMPLETE));
        assert!(!removes(7, libc::NUD_REACHABLE) && !removes(7, libc::NUD_PERMANENT));
        assert!(!removes(8, libc::NUD_FAILED));
        assert!(unresolved(&entry(7, libc::NUD_FAILED)[..11], &links).is_none(), "cut off");
    }
}
