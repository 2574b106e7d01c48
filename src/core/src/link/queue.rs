//! What waits to be written to one peer.
//!
//! Small things are copied together (a gathered write of many small pieces costs more than the
//! copy); a large payload that several peers get is kept once and referenced.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// The pieces of one vectored write.
pub type WritePlan<'a> = heapless::Vec<IoSlice<'a>, 16>;

/// Bytes after which a new chunk begins: what one write to a socket can be expected to take.
const CHUNK: usize = 64 << 10;
/// Buffers that a [`Pool`] keeps for the next writer.
const POOLED: usize = 4;
/// A buffer worth keeping has grown at least this far.
const WORTH_KEEPING: usize = 4 << 10;

/// Output buffers between two uses. An idle peer owns none.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    spare: heapless::Vec<Vec<u8>, POOLED>,
}

impl Pool {
    fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        if (WORTH_KEEPING..=2 * CHUNK).contains(&buffer.capacity()) {
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
    shared: Option<Box<Shared>>,
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
    /// Copied bytes sent since there are parts.
    own_sent: u64,
}

impl OutQueue {
    /// Bytes that wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.own_len() + self.shared.as_ref().map_or(0, |shared| shared.len)
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

    /// Where to append. Not to be shortened.
    #[inline]
    pub(crate) fn buffer(&mut self, pool: &mut Pool) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = pool.take();
        } else if self.tail.len() >= CHUNK {
            self.full_len += self.tail.len();
            let tail = std::mem::replace(&mut self.tail, pool.take());
            self.full.push_back(tail);
        }
        &mut self.tail
    }

    /// Appends bytes that others hold as well.
    pub(crate) fn push_shared(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let own_len = self.own_len() as u64;
        let shared = self.shared.get_or_insert_default();
        shared.len += bytes.len();
        let at = shared.own_sent + own_len;
        shared.parts.push_back((at, bytes));
    }

    /// The first pieces to write.
    pub(crate) fn plan<'a>(&'a self, plan: &mut WritePlan<'a>) {
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
                        if plan.push(IoSlice::new(rest)).is_err() {
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
                if plan.push(IoSlice::new(now)).is_err() {
                    return;
                }
                position += now.len() as u64;
                own = later;
            }
        }
    }

    /// The first `count` bytes are written. Drained buffers go back to the pool.
    pub(crate) fn advance(&mut self, mut count: usize, pool: &mut Pool) {
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
        Send(usize),
    }

    proptest! {
        /// However writes are split, the bytes come out once and in order, and nothing is kept.
        #[test]
        fn in_order_and_empty_at_the_end(steps in prop::collection::vec(prop_oneof![
            (0..50_000usize).prop_map(Step::Copy),
            (0..50_000usize).prop_map(Step::Share),
            (0..90_000usize).prop_map(Step::Send),
        ], 0..40)) {
            let mut pool = Pool::default();
            let mut queue = OutQueue::default();
            let (mut sent, mut put) = (Vec::new(), Vec::new());
            let mut counter = 0u32;
            let mut fresh = |n: usize| -> Vec<u8> {
                (0..n).map(|_| { counter = counter.wrapping_add(1); (counter >> 3) as u8 }).collect()
            };
            let send = |queue: &mut OutQueue, pool: &mut Pool, mut n: usize, sent: &mut Vec<u8>| {
                let mut taken = 0;
                {
                    let mut plan = WritePlan::new();
                    queue.plan(&mut plan);
                    for piece in &plan {
                        let now = piece.len().min(n);
                        sent.extend_from_slice(&piece[..now]);
                        taken += now;
                        n -= now;
                    }
                }
                queue.advance(taken, pool);
            };
            for step in steps {
                match step {
                    Step::Copy(n) => {
                        let bytes = fresh(n);
                        queue.buffer(&mut pool).extend_from_slice(&bytes);
                        put.extend(bytes);
                    }
                    Step::Share(n) => {
                        let bytes = fresh(n);
                        queue.push_shared(Bytes::from(bytes.clone()));
                        put.extend(bytes);
                    }
                    Step::Send(n) => send(&mut queue, &mut pool, n, &mut sent),
                }
                prop_assert_eq!(queue.len(), put.len() - sent.len());
            }
            while !queue.is_empty() {
                send(&mut queue, &mut pool, usize::MAX, &mut sent);
            }
            prop_assert!(sent == put);
            prop_assert!(queue.tail.capacity() == 0 && queue.shared.is_none());
        }
    }
}
