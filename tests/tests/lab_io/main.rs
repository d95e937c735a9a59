//! The shells in `carp_user::io` against a real kernel: every test in a network namespace of its
//! own, which goes with the test. Needs root.

#[cfg(test)]
mod address;
#[cfg(test)]
mod advert;
#[cfg(test)]
mod link;
#[cfg(test)]
mod namespace;
