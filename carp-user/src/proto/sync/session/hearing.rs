//! What the peer says.

use super::bulk::{In, Out};
use super::equality::Equality;
use super::{Action, Cause, Link, Notice, Session, Ticket, Up};
use crate::proto::flow::Key;
use crate::proto::sync::message::{self, Hello, Message};
use crate::proto::sync::record::{Item, Records};
use crate::proto::sync::table::Purpose;
use carp_common::time::Instant;

impl Session {
    pub(super) fn received(&mut self, frame: &[u8], now: Instant, actions: &mut Vec<Action>) {
        match &mut self.link {
            // What was on the way when the connection was given up.
            Link::Down => return,
            Link::Greeting { heard } => *heard = now,
            Link::Up(up) => up.heard = now,
        }
        match (Message::decode(frame), &self.link) {
            (Ok(None), _) => {}
            (Err(why), _) => self.close(Notice::Malformed(why), now, actions),
            (Ok(Some(Message::Hello(hello))), Link::Greeting { .. }) => self.hello(&hello, now, actions),
            (Ok(Some(Message::Hello(_))), _) => self.close(Notice::OutOfTurn("a hello"), now, actions),
            (Ok(Some(message)), Link::Up(_)) => self.heard(message, now, actions),
            (Ok(Some(_)), _) => self.close(Notice::OutOfTurn("something else than a hello"), now, actions),
        }
    }

    fn hello(&mut self, hello: &Hello<'_>, now: Instant, actions: &mut Vec<Action>) {
        if hello.common_version().is_none() {
            let peer = (hello.oldest, hello.newest);
            return self.close(Notice::Version { peer }, now, actions);
        }
        if hello.name == self.setup.name {
            return self.close(Notice::SameName(hello.name.to_owned()), now, actions);
        }
        let wins_ties = (hello.epoch, hello.name) > (self.setup.epoch, self.setup.name.as_str());
        self.table.connected(hello, wins_ties);
        self.link = Link::Up(Box::new(Up {
            peer: hello.name.to_owned(),
            heard: now,
            received: 0,
            applied: 0,
            into: In::new(now),
            out: Out::Dumping,
            equality: Equality::default(),
        }));
        self.await_table(actions);
        self.tell_all(false, now, actions);
        self.flush(now, actions);
    }

    fn heard(&mut self, message: Message<'_>, now: Instant, actions: &mut Vec<Action>) {
        let Link::Up(up) = &mut self.link else { return };
        match message {
            Message::Hello(_) => {}
            Message::Batch { number, records } => self.batch(number, records, now, actions),
            Message::Ack(number) if number > self.table.last_batch() => {
                self.close(Notice::OutOfTurn("a confirmation"), now, actions);
            }
            Message::Ack(number) => {
                self.table.confirmed(number);
                self.flush(now, actions);
            }
            Message::BulkBegin { estimate } => up.into.begins(estimate, now),
            Message::BulkEnd { .. } => {
                up.into.ends(up.received);
                self.landed(now, actions);
            }
            Message::Digest(root) => self.compare_root(&root, now, actions),
            Message::Sums { stand, sums } => self.compare_sums(&stand, sums, now, actions),
            Message::Want(wanted) => {
                let purpose = Purpose { buckets: wanted.iter().collect(), ..Purpose::default() };
                self.dump(purpose, now, actions);
            }
            Message::KeepAlive { serving, clock } => self.table.set_peer_serving(serving, clock),
            Message::Full => self.tell_all(true, now, actions),
        }
    }

    fn batch(&mut self, number: u64, records: Records<'_>, now: Instant, actions: &mut Vec<Action>) {
        let Link::Up(up) = &mut self.link else { return };
        if number != up.received + 1 {
            return self.close(Notice::OutOfTurn("a batch"), now, actions);
        }
        up.received = number;
        let mut flows = 0;
        for record in records {
            let record = match record {
                Ok(record) => record,
                Err(why) => return self.close(Notice::Malformed(why), now, actions),
            };
            flows += u64::from(matches!(record.item, Item::Flow(_)));
            actions.extend(self.table.receive(&record, now).into_iter().flatten().map(Action::Kernel));
        }
        if let Link::Up(up) = &mut self.link {
            up.into.grows(flows, now);
        }
        actions.push(Action::Apply(Ticket { connection: self.connection, batch: number }));
    }

    pub(super) fn applied(
        &mut self,
        ticket: Ticket,
        refused: &[(Key, Cause)],
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        for (key, cause) in refused {
            self.table.refused(key);
            self.refusals.note(*key, *cause);
        }
        let Link::Up(up) = &mut self.link else { return };
        if ticket.connection == self.connection && ticket.batch > up.applied {
            up.applied = ticket.batch;
            actions.push(Action::Send(message::ack(ticket.batch)));
            self.landed(now, actions);
        }
    }

    pub(super) fn tell_refusals(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let differing = match &self.link {
            Link::Up(up) => up.equality.differing(),
            Link::Down | Link::Greeting { .. } => None,
        };
        self.refusals.tell(self.table.tally().over_limit, differing, now, actions);
    }

    /// Perhaps the kernel has the last of the peer's table now.
    fn landed(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Link::Up(up) = &mut self.link else { return };
        if up.into.lands(up.applied) {
            self.join(actions);
        }
        self.flush(now, actions);
    }
}
