//! What waits to be written to one peer.
//!
//! Small things are copied together (a gathered write of many small pieces costs more than the
//! copy); a large payload that several peers get is kept once and referenced.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use crate::link::pace::Pace;

/// The pieces of one vectored write.
pub type WritePlan<'a> = heapless::Vec<IoSlice<'a>, 16>;

/// What a chunk's buffer grows to: what one write to a socket can be expected to take, and one block
/// of S2.
const CHUNK: usize = 64 << 10;
/// Bytes after which a new chunk begins, so that the usual operation still fits into the buffer.
const FULL: usize = CHUNK - LEAST;
/// Buffers that a [`Pool`] keeps for the next writer: as much as a queue goes up and down by while its
/// producers are held and released again, which is half of [`HIGH_WATER`](crate::shard::HIGH_WATER).
const POOLED: usize = 8;
/// What a buffer begins with, to double from there.
const LEAST: usize = 4 << 10;

/// Output buffers between two uses. An idle peer owns none.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    spare: heapless::Vec<Vec<u8>, POOLED>,
}

impl Pool {
    fn take(&mut self) -> Vec<u8> {
        let spare = self.spare.pop();
        spare.unwrap_or_else(|| Vec::with_capacity(LEAST))
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        if (LEAST..=CHUNK).contains(&buffer.capacity()) {
            buffer.clear();
            // A full pool lets the buffer go.
            let _ = self.spare.push(buffer);
        }
    }
}

/// Bytes in the order they go out.
#[derive(Debug, Default)]
pub(crate) struct OutQueue {
    /// Full chunks, oldest first.
    full: VecDeque<Vec<u8>>,
    /// The chunk that is written to.
    tail: Vec<u8>,
    /// Bytes of the oldest chunk that are sent already.
    sent: usize,
    /// Bytes in `full`.
    full_len: usize,
    /// Bytes that were given away by [`OutQueue::lend`] and not taken in yet.
    lent: usize,
    shared: Option<Box<Shared>>,
    /// Of a link that may be slow: no more than it is given at a time makes a chunk, which is what
    /// [`OutQueue::push_urgent`] waits for.
    pace: Option<Pace>,
}

/// A place in a queue while nothing is written from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    chunks: usize,
    tail: usize,
}

/// Payloads that are not copied, each with its place in the stream of copied bytes.
#[derive(Debug, Default)]
struct Shared {
    parts: VecDeque<(u64, Bytes)>,
    /// Bytes of the first part that are sent already.
    sent: usize,
    len: usize,
    /// Bytes of parts within the chunk that is written to.
    in_tail: usize,
    /// Copied bytes sent since there are parts.
    own_sent: u64,
}

impl OutQueue {
    /// For a link that may be slow.
    pub(crate) fn fine() -> Self {
        OutQueue {
            pace: Some(Pace::default()),
            ..OutQueue::default()
        }
    }

    /// Bytes that wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.own_len() + self.lent + self.shared.as_ref().map_or(0, |shared| shared.len)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn own_len(&self) -> usize {
        self.full_len + self.tail.len() - self.sent
    }

    /// The place up to which it is filled, for [`OutQueue::since`].
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            chunks: self.full.len(),
            tail: self.tail.len(),
        }
    }

    /// What was appended since, as far as it is in one piece.
    pub(crate) fn since(&self, mark: Mark) -> &[u8] {
        let from = if mark.chunks == self.full.len() {
            mark.tail
        } else {
            0
        };
        self.tail.get(from..).unwrap_or_default()
    }

    /// Where to append an operation (or several). Not to be shortened.
    #[inline]
    pub(crate) fn buffer(&mut self, pool: &mut Pool) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = pool.take();
        } else {
            let full = match self.pace {
                Some(pace) => {
                    let in_tail = self.shared.as_ref().map_or(0, |shared| shared.in_tail);
                    self.tail.len() + in_tail >= pace.most().min(FULL)
                }
                None => self.tail.len() >= FULL,
            };
            if full {
                self.begin_chunk(pool);
            }
        }
        &mut self.tail
    }

    fn begin_chunk(&mut self, pool: &mut Pool) {
        self.full_len += self.tail.len();
        let tail = std::mem::replace(&mut self.tail, pool.take());
        self.full.push_back(tail);
        if let Some(shared) = &mut self.shared {
            shared.in_tail = 0;
        }
    }

    /// Where to append what belongs to the operation that was begun in [`OutQueue::buffer`].
    #[inline]
    pub(crate) fn rest(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends an operation behind the first chunk rather than behind all of them. A chunk ends where
    /// an operation ends.
    pub(crate) fn push_urgent(&mut self, bytes: &[u8], pool: &mut Pool) {
        let Some(first) = self.full.front_mut() else {
            self.buffer(pool).extend_from_slice(bytes);
            return;
        };
        let length = first.len().saturating_sub(self.sent);
        first.extend_from_slice(bytes);
        self.full_len += bytes.len();
        if let Some(shared) = &mut self.shared {
            let end = shared.own_sent + length as u64;
            for (at, _) in &mut shared.parts {
                if *at >= end {
                    *at += bytes.len() as u64;
                }
            }
        }
    }

    /// Appends bytes that others hold as well.
    pub(crate) fn push_shared(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let own_len = self.own_len() as u64;
        let shared = self.shared.get_or_insert_default();
        shared.len += bytes.len();
        shared.in_tail += bytes.len();
        let at = shared.own_sent + own_len;
        shared.parts.push_back((at, bytes));
    }

    /// The first pieces to write.
    pub(crate) fn plan<'a>(&'a self, plan: &mut WritePlan<'a>) {
        let mut room = self.pace.map_or(usize::MAX, Pace::most);
        // Answers whether there may be more.
        let mut put = |bytes: &'a [u8]| {
            let now = bytes.get(..room).unwrap_or(bytes);
            room -= now.len();
            plan.push(IoSlice::new(now)).is_ok() && room > 0
        };
        let (mut position, mut shared_sent) = self
            .shared
            .as_ref()
            .map_or((0, 0), |shared| (shared.own_sent, shared.sent));
        let mut parts = self
            .shared
            .iter()
            .flat_map(|shared| &shared.parts)
            .peekable();
        let mut skip = self.sent;
        for chunk in self.full.iter().chain(std::iter::once(&self.tail)) {
            let mut own = chunk.get(skip..).unwrap_or_default();
            skip = 0;
            loop {
                let until = match parts.peek() {
                    Some((at, bytes)) if *at == position => {
                        let rest = bytes.get(shared_sent..).unwrap_or_default();
                        shared_sent = 0;
                        parts.next();
                        if !put(rest) {
                            return;
                        }
                        continue;
                    }
                    Some((at, _)) => usize::try_from(at - position).unwrap_or(usize::MAX),
                    None => usize::MAX,
                };
                if own.is_empty() {
                    break;
                }
                let (now, later) = own.split_at(until.min(own.len()));
                if !put(now) {
                    return;
                }
                position += now.len() as u64;
                own = later;
            }
        }
    }

    /// Gives away all chunks of a queue without shared payloads. Their bytes count as waiting until
    /// they are [returned](OutQueue::give_back).
    pub(crate) fn lend(&mut self) -> impl Iterator<Item = Vec<u8>> + use<> {
        self.lent += self.full_len + self.tail.len();
        self.full_len = 0;
        let full = std::mem::take(&mut self.full);
        let tail = std::mem::take(&mut self.tail);
        full.into_iter()
            .chain(Some(tail).filter(|tail| !tail.is_empty()))
    }

    /// A chunk was taken in; its buffer is used again.
    pub(crate) fn give_back(&mut self, chunk: Vec<u8>, pool: &mut Pool) {
        self.lent = self.lent.saturating_sub(chunk.len());
        pool.give(chunk);
    }

    /// The peer takes no more for now.
    pub(crate) fn blocked(&mut self) {
        if let Some(pace) = &mut self.pace {
            pace.blocked();
        }
    }

    /// The first `count` bytes are written. Drained buffers go back to the pool.
    pub(crate) fn advance(&mut self, mut count: usize, pool: &mut Pool) {
        if let Some(pace) = &mut self.pace {
            pace.sent(count);
        }
        while count > 0 {
            let own = match &mut self.shared {
                Some(shared) => match shared.parts.front() {
                    Some((at, bytes)) if *at == shared.own_sent => {
                        let rest = bytes.len() - shared.sent;
                        let now = rest.min(count);
                        count -= now;
                        shared.len -= now;
                        shared.sent += now;
                        if now == rest {
                            shared.parts.pop_front();
                            shared.sent = 0;
                        }
                        continue;
                    }
                    Some((at, _)) => {
                        let own = usize::try_from(at - shared.own_sent).unwrap_or(usize::MAX);
                        own.min(count)
                    }
                    None => count,
                },
                None => count,
            }
            .min(self.own_len());
            if own == 0 {
                break;
            }
            count -= own;
            if let Some(shared) = &mut self.shared {
                shared.own_sent += own as u64;
            }
            self.sent += own;
            while let Some(first) = self.full.front()
                && self.sent >= first.len()
            {
                self.sent -= first.len();
                self.full_len -= first.len();
                if let Some(drained) = self.full.pop_front() {
                    pool.give(drained);
                }
            }
        }
        if self
            .shared
            .as_ref()
            .is_some_and(|shared| shared.parts.is_empty())
        {
            self.shared = None;
        }
        if self.own_len() == 0 {
            self.sent = 0;
            pool.give(std::mem::take(&mut self.tail));
            if self.full.capacity() > 0 {
                self.full = VecDeque::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Copy(usize),
        Share(usize),
        Urgent(usize),
        Send(usize),
    }

    /// An operation: what it is, its length, its bytes.
    fn operation(kind: u8, number: u32, length: usize) -> (Vec<u8>, Vec<u8>) {
        let mut head = vec![kind];
        head.extend_from_slice(&(length as u32).to_le_bytes());
        let body = (0..length as u32)
            .map(|at| (number.wrapping_mul(31) ^ at) as u8)
            .collect();
        (head, body)
    }

    fn send(queue: &mut OutQueue, pool: &mut Pool, mut most: usize, sent: &mut Vec<u8>) {
        let mut taken = 0;
        let mut plan = WritePlan::new();
        queue.plan(&mut plan);
        for piece in &plan {
            let now = piece.len().min(most);
            sent.extend_from_slice(&piece[..now]);
            taken += now;
            most -= now;
        }
        drop(plan);
        queue.advance(taken, pool);
    }

    proptest! {
        /// However writes are split, operations come out once and whole, those that are not urgent
        /// in order, and nothing is kept.
        #[test]
        fn whole_in_order_and_empty_at_the_end(fine in any::<bool>(), steps in prop::collection::vec(
            prop_oneof![
                (0..50_000usize).prop_map(Step::Copy),
                (1..50_000usize).prop_map(Step::Share),
                (0..100usize).prop_map(Step::Urgent),
                (0..90_000usize).prop_map(Step::Send),
            ], 0..40))
        {
            let mut pool = Pool::default();
            let mut queue = if fine { OutQueue::fine() } else { OutQueue::default() };
            let mut sent = Vec::new();
            let (mut usual, mut urgent) = (Vec::new(), Vec::new());
            let mut put = 0;
            for (number, step) in steps.into_iter().enumerate() {
                let number = number as u32;
                match step {
                    Step::Copy(length) => {
                        let (head, body) = operation(b'c', number, length);
                        let whole = [head, body].concat();
                        queue.buffer(&mut pool).extend_from_slice(&whole);
                        put += whole.len();
                        usual.push(whole);
                    }
                    Step::Share(length) => {
                        let (head, body) = operation(b's', number, length - 1);
                        queue.buffer(&mut pool).extend_from_slice(&head);
                        let (front, end) = body.split_at(body.len() / 2);
                        queue.push_shared(Bytes::copy_from_slice(front));
                        queue.rest().extend_from_slice(end);
                        put += head.len() + body.len();
                        usual.push([head, body].concat());
                    }
                    Step::Urgent(length) => {
                        let (head, body) = operation(b'u', number, length);
                        let whole = [head, body].concat();
                        queue.push_urgent(&whole, &mut pool);
                        put += whole.len();
                        urgent.push(whole);
                    }
                    Step::Send(most) => send(&mut queue, &mut pool, most, &mut sent),
                }
                prop_assert_eq!(queue.len(), put - sent.len());
            }
            while !queue.is_empty() {
                send(&mut queue, &mut pool, usize::MAX, &mut sent);
            }
            prop_assert!(queue.tail.capacity() == 0 && queue.shared.is_none());
            let (mut got_usual, mut got_urgent) = (Vec::new(), Vec::new());
            let mut rest = sent.as_slice();
            while let [kind, a, b, c, d, ..] = rest {
                let length = 5 + u32::from_le_bytes([*a, *b, *c, *d]) as usize;
                prop_assert!(length <= rest.len(), "an operation was cut");
                let to = if *kind == b'u' { &mut got_urgent } else { &mut got_usual };
                to.push(rest[..length].to_vec());
                rest = &rest[length..];
            }
            prop_assert!(got_usual == usual);
            // Urgent ones may overtake each other.
            got_urgent.sort_unstable();
            urgent.sort_unstable();
            prop_assert!(got_urgent == urgent);
        }
    }

    #[test]
    fn what_is_urgent_waits_for_a_chunk_at_most() {
        let mut pool = Pool::default();
        let mut queue = OutQueue::fine();
        for _ in 0..1000 {
            queue.buffer(&mut pool).extend_from_slice(&[b'.'; 1000]);
        }
        queue.push_urgent(b"!", &mut pool);
        let mut sent = Vec::new();
        while !queue.is_empty() {
            send(&mut queue, &mut pool, usize::MAX, &mut sent);
        }
        let at = sent.iter().position(|byte| *byte == b'!');
        assert!(
            at.is_some_and(|at| at <= Pace::default().most() + 1000),
            "{at:?}"
        );
    }
}
