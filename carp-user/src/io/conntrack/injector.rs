//! Flows of another node, put into this one's table.

use super::build::{self, Unfit};
use super::{failed, open, port};
use crate::io::error::Error;
use crate::io::netlink::{DATAGRAM, ERROR, force_receive_buffer, replies};
use crate::io::raw::cap_acknowledgements;
use crate::proto::flow::{Expectation, Flow, Key};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// What the table shall become.
#[derive(Clone, Copy, Debug)]
pub enum Order<'a> {
    /// It has this flow, which is new here: make it, and change it should it be there.
    Make(&'a Flow),
    /// It has this flow, which is there: change it, and make it should it not be there. A change leaves the
    /// translation, the master and the helper as they are.
    Change(&'a Flow),
    /// It has this flow and nothing of what it knew before: forget it, and make it. Windows, counters and expectations
    /// of the old entry are gone.
    Replace(&'a Flow),
    /// It has a flow with this key: this one, if there is none.
    Add(&'a Flow),
    /// This flow lives on for as long as it says from now on, if it is there. Nothing else of it changes, but that TCP's
    /// windows may not matter any more: those of a flow that another node goes on with are out of date.
    Prolong(&'a Flow),
    /// It has no such flow.
    Delete(&'a Key),
    /// It waits for this. Its master must be there.
    Expect(&'a Expectation),
    /// It does not wait for this: zone and tuple of an expectation.
    Withdraw(&'a Key),
}

/// Why an order was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was not even sent.
    Unfit(Unfit),
    /// What the kernel said: `NOMEM` the table is full, `EXIST` another flow has the reply direction, `OPNOTSUPP` it
    /// has no such helper, `NOENT` the master is not there, `BUSY` the entry's status has gone further, `PERM` its
    /// timeout is fixed, `NOSPC` no rule here uses labels, so that there is no room for them (only a change says so).
    Kernel(Errno),
}

/// Puts flows into the table of one network namespace. Blocks as long as the kernel works, some microseconds a flow:
/// not for the thread that advertises.
#[derive(Debug)]
pub struct Injector {
    socket: OwnedFd,
    port: u32,
    liberal: bool,
    sequence: u32,
    requests: Vec<u8>,
    answers: Vec<u8>,
    refused: BTreeMap<i32, u64>,
}

/// One message of a batch.
#[derive(Clone, Copy, Debug)]
struct Sent<'a> {
    /// Which order.
    order: usize,
    step: Step<'a>,
    /// What the first try ended with.
    first: Option<Errno>,
}

/// What a message has the kernel do.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Create(&'a Flow),
    /// For an order to replace: there is nothing to fall back on.
    CreateAnew(&'a Flow),
    Update(&'a Flow),
    Add(&'a Flow),
    Prolong(&'a Flow),
    Delete(&'a Key),
    Expect(&'a Expectation),
    Withdraw(&'a Key),
}

impl Injector {
    /// In the network namespace of the calling thread. With `liberal`, TCP's windows do not matter for the flows that it
    /// puts there: no node tells them to another, and those of an entry from before are out of date.
    ///
    /// # Errors
    /// [`Error::Privilege`] without `CAP_NET_ADMIN`, [`Error::Unsupported`] without ctnetlink.
    pub fn open(liberal: bool) -> Result<Self, Error> {
        let doing = |source: io::Error| failed("opening ctnetlink", source);
        let socket = open(0, SocketFlags::empty())?;
        force_receive_buffer(&socket, ROOM_FOR_ERRORS).map_err(doing)?;
        cap_acknowledgements(socket.as_fd()).map_err(doing)?;
        let port = port(&socket).map_err(doing)?;
        Ok(Self {
            socket,
            port,
            liberal,
            sequence: 0,
            requests: Vec::with_capacity(DATAGRAM),
            answers: vec![0; DATAGRAM],
            refused: BTreeMap::new(),
        })
    }

    /// The number by which events tell its doing from others': [`Message::by`](super::Message::by).
    pub fn port(&self) -> u32 {
        self.port
    }

    /// How often the kernel refused something for good, by error number.
    pub fn refused(&self) -> &BTreeMap<i32, u64> {
        &self.refused
    }

    /// Carries out the orders in turn, some dozens a system call, and says of each that was refused which it was (its
    /// place among the orders) and why. That what shall go is not there is no refusal.
    ///
    /// # Errors
    /// When the kernel takes no message at all, or its answers are lost (`ENOBUFS`): how many were carried out is not known then.
    pub fn carry_out(
        &mut self,
        orders: &[Order<'_>],
        refused: &mut impl FnMut(usize, Refusal),
    ) -> io::Result<()> {
        let (mut sent, mut again) = (Vec::with_capacity(2 * BATCH), Vec::with_capacity(BATCH));
        for (chunk, first) in orders.chunks(BATCH).zip((0..).step_by(BATCH)) {
            for (order, index) in chunk.iter().zip(first..) {
                match order.steps() {
                    Ok(steps) => {
                        let steps = steps.into_iter().flatten();
                        sent.extend(steps.map(|step| Sent { order: index, step, first: None }));
                    }
                    Err(unfit) => refused(index, Refusal::Unfit(unfit)),
                }
            }
            self.send(&mut sent, &mut again, refused)?;
            sent.clear();
            std::mem::swap(&mut sent, &mut again);
            self.send(&mut sent, &mut again, refused)?;
            sent.clear();
        }
        Ok(())
    }

    /// Has the kernel do it, and reads what it has against it: it has done all when `send` returns.
    fn send<'a>(
        &mut self,
        sent: &mut Vec<Sent<'a>>,
        again: &mut Vec<Sent<'a>>,
        refused: &mut impl FnMut(usize, Refusal),
    ) -> io::Result<()> {
        let Self { requests, sequence, liberal, .. } = self;
        let first = *sequence;
        requests.clear();
        sent.retain(|sent| match sent.step.write(requests, *sequence, *liberal) {
            Ok(()) => {
                *sequence = sequence.wrapping_add(1);
                true
            }
            Err(unfit) => {
                refused(sent.order, Refusal::Unfit(unfit));
                false
            }
        });
        if requests.is_empty() {
            return Ok(());
        }
        rustix::io::retry_on_intr(|| rustix::net::send(&self.socket, &self.requests, SendFlags::empty()))?;
        loop {
            match rustix::net::recv(&self.socket, self.answers.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((len, _)) => self.read(len, first, sent, again, refused),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A datagram of errors.
    fn read<'a>(
        &mut self,
        len: usize,
        first: u32,
        sent: &[Sent<'a>],
        again: &mut Vec<Sent<'a>>,
        refused: &mut impl FnMut(usize, Refusal),
    ) {
        for reply in replies(self.answers.get(..len).unwrap_or_default()) {
            let place = usize::try_from(reply.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
            let code = reply.body.first_chunk().copied().map_or(0, i32::from_ne_bytes);
            let (Some(sent), ERROR, true) = (sent.get(place), reply.kind, code < 0) else { continue };
            let errno = Errno::from_raw_os_error(code.saturating_neg());
            match sent.step.after(errno, sent.first) {
                Next::Nothing => {}
                Next::Try(step) => again.push(Sent { step, first: Some(errno), ..*sent }),
                Next::Refuse(errno) => {
                    *self.refused.entry(errno.raw_os_error()).or_default() += 1;
                    refused(sent.order, Refusal::Kernel(errno));
                }
            }
        }
    }
}

/// Orders of one system call.
const BATCH: usize = 64;
/// Bytes of the receive buffer: an error takes about one kilobyte there, and each message may have one.
const ROOM_FOR_ERRORS: usize = 1 << 20;

/// What follows from an error.
enum Next<'a> {
    Nothing,
    Try(Step<'a>),
    Refuse(Errno),
}

impl<'a> Order<'a> {
    /// One or two messages; none for what no kernel can hold, so that nothing is forgotten for its sake.
    fn steps(&self) -> Result<[Option<Step<'a>>; 2], Unfit> {
        Ok(match *self {
            Self::Make(flow) => [Some(Step::Create(flow)), None],
            Self::Change(flow) => [Some(Step::Update(flow)), None],
            Self::Replace(flow) => {
                build::check(flow)?;
                [Some(Step::Delete(&flow.key)), Some(Step::CreateAnew(flow))]
            }
            Self::Add(flow) => [Some(Step::Add(flow)), None],
            Self::Prolong(flow) => [Some(Step::Prolong(flow)), None],
            Self::Delete(key) => [Some(Step::Delete(key)), None],
            Self::Expect(expectation) => [Some(Step::Expect(expectation)), None],
            Self::Withdraw(key) => [Some(Step::Withdraw(key)), None],
        })
    }
}

impl<'a> Step<'a> {
    fn write(&self, bytes: &mut Vec<u8>, sequence: u32, liberal: bool) -> Result<(), Unfit> {
        match self {
            Self::Create(flow) | Self::CreateAnew(flow) => build::create(bytes, sequence, flow, liberal),
            Self::Update(flow) => build::update(bytes, sequence, flow, liberal),
            Self::Add(flow) => build::add(bytes, sequence, flow, liberal),
            Self::Prolong(flow) => build::prolong(bytes, sequence, flow, liberal),
            Self::Delete(key) => build::delete(bytes, sequence, key),
            Self::Expect(expectation) => build::expect(bytes, sequence, expectation),
            Self::Withdraw(key) => build::withdraw(bytes, sequence, key),
        }
    }

    /// After this error; `first` is what an earlier try for the same order ended with.
    fn after(&self, errno: Errno, first: Option<Errno>) -> Next<'a> {
        match (*self, errno, first) {
            (Self::Delete(_) | Self::Withdraw(_) | Self::Prolong(_), Errno::NOENT, _) => Next::Nothing,
            (Self::Add(_), Errno::EXIST, _) => Next::Nothing,
            // It is there: then nobody may say how it is translated.
            (Self::Create(flow), Errno::OPNOTSUPP, None) => Next::Try(Step::Update(flow)),
            (Self::Update(flow), Errno::NOENT, None) => Next::Try(Step::Create(flow)),
            // It is not there, and what kept it from being made is the reason.
            (Self::Update(_), Errno::NOENT, Some(first)) => Next::Refuse(first),
            (_, errno, _) => Next::Refuse(errno),
        }
    }
}
