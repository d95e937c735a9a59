//! Between the kernel's words and those of the session.

use crate::io::conntrack::{Change, News as Told, Order, Refusal};
use crate::proto::flow::{Expectation, Key};
use crate::proto::sync::filter::Filter;
use crate::proto::sync::session::Cause;
use crate::proto::sync::table::{Instruction, News};
use rustix::io::Errno;

/// Whether the peer is to hear of it.
pub(super) fn is_for_the_peer(filter: &Filter, news: &Told) -> bool {
    match news {
        Told::Flow(Change::New | Change::Updated, flow) => filter.carries(flow),
        // Its mark, and whose addresses these are, may be another than when it began. Of a flow that was never told
        // the table knows nothing to end.
        Told::Flow(Change::Destroyed, _) => true,
        Told::Expectation(..) => true,
    }
}

/// What the kernel says, in the session's words.
pub(super) fn told(news: &Told, tell: &mut impl FnMut(News<'_>)) {
    tell(match news {
        Told::Flow(Change::New, flow) => News::Began(flow),
        Told::Flow(Change::Updated, flow) => News::Changed(flow),
        Told::Flow(Change::Destroyed, flow) => News::Ended(&flow.key),
        Told::Expectation(Change::New | Change::Updated, expectation) => News::Expected(expectation),
        Told::Expectation(Change::Destroyed, Expectation { master, tuple, .. }) => {
            return tell(News::Cancelled(&Key { zone: master.zone, original: *tuple }));
        }
    });
}

/// What the kernel is asked to do.
pub(super) fn order(instruction: &Instruction) -> Order<'_> {
    match instruction {
        Instruction::Inject(flow, _) => Order::Make(flow),
        Instruction::Insert(flow, _) => Order::Add(flow),
        Instruction::Keep(flow, _) => Order::Prolong(flow),
        Instruction::Remove(key) => Order::Delete(key),
        Instruction::Expect(expectation) => Order::Expect(expectation),
        Instruction::Cancel(expectation) => Order::Withdraw(expectation),
    }
}

/// Why the kernel refused a flow.
pub(super) const fn cause(refusal: Refusal) -> Cause {
    match refusal {
        Refusal::Unfit(_) => Cause::Unfit,
        Refusal::Kernel(Errno::NOMEM) => Cause::Full,
        Refusal::Kernel(Errno::EXIST) => Cause::Taken,
        Refusal::Kernel(Errno::OPNOTSUPP) => Cause::Helper,
        Refusal::Kernel(Errno::NOENT) => Cause::Master,
        Refusal::Kernel(_) => Cause::Other,
    }
}

/// Whose flow was refused.
pub(super) fn key(instruction: &Instruction) -> Option<Key> {
    match instruction {
        Instruction::Inject(flow, _) | Instruction::Insert(flow, _) => Some(flow.key),
        Instruction::Keep(..) | Instruction::Remove(_) | Instruction::Expect(_) | Instruction::Cancel(_) => {
            None
        }
    }
}
