//! One direction of a connection: latency, bandwidth, buffers that fill up, and ways to break.

use std::collections::VecDeque;
use std::time::Duration;

use petiole_core::random::Random;
use petiole_core::time::Instant;

/// The largest socket buffer.
pub(crate) const MOST_ROOM: usize = 65_536;

/// Bytes on their way from one end to the other.
#[derive(Debug)]
pub(crate) struct Pipe {
    flight: VecDeque<(Instant, Vec<u8>)>,
    ready: VecDeque<u8>,
    held: usize,
    room: usize,
    latency: Duration,
    nanos_per_byte: u64,
    busy: Instant,
    fin: Option<Instant>,
    ended: bool,
    broken: bool,
    /// Nothing arrives any more, and nobody is told.
    pub(crate) cut: bool,
    /// Nothing arrives for now.
    pub(crate) frozen: bool,
    /// The reader is gone.
    pub(crate) abandoned: bool,
    /// The reader waits for bytes.
    pub(crate) read_armed: bool,
    /// The writer waits for room.
    pub(crate) write_armed: bool,
}

/// What came of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Io {
    /// So many bytes.
    Done(usize),
    /// Not now.
    Blocked,
    /// The other end has closed in order.
    End,
    /// The connection is reset.
    Broken,
}

impl Pipe {
    pub(crate) fn new(rng: &mut Random, now: Instant) -> Self {
        let room = [600, 4096, MOST_ROOM][rng.below(3) as usize];
        Pipe {
            flight: VecDeque::new(),
            ready: VecDeque::new(),
            held: 0,
            room,
            latency: Duration::from_micros(20 + rng.below(5) * rng.below(4000)),
            // From 1 MB/s up.
            nanos_per_byte: [0, 10, 1000][rng.below(3) as usize],
            busy: now,
            fin: None,
            ended: false,
            broken: false,
            cut: false,
            frozen: false,
            abandoned: false,
            read_armed: true,
            write_armed: false,
        }
    }

    /// From 50 kB/s up from here on.
    pub(crate) fn slow_down(&mut self, rng: &mut Random) {
        self.nanos_per_byte = self.nanos_per_byte.max(1 + rng.below(20_000));
    }

    /// Whether a writer that waits is told to go on.
    pub(crate) fn is_writable(&self) -> bool {
        self.abandoned
            || self.broken
            || self.fin.is_some()
            || self.room - self.held.min(self.room) >= self.room / 3
    }

    /// Takes some of `bytes`; they arrive at the answered time.
    pub(crate) fn write(&mut self, rng: &mut Random, now: Instant, bytes: &[u8]) -> (Io, Instant) {
        if self.broken || self.fin.is_some() {
            return (Io::Broken, now);
        }
        if self.abandoned && !self.cut {
            return (Io::Done(bytes.len()), now);
        }
        let mut count = bytes.len().min(self.room - self.held.min(self.room));
        if count > 1 && rng.below(4) == 0 {
            count = 1 + rng.below(count as u64) as usize;
        }
        // As a system does it: room for a byte or two is no room.
        if count == 0 || !self.is_writable() {
            self.write_armed = true;
            return (Io::Blocked, now);
        }
        let begin = self.busy.max(now);
        self.busy = begin + Duration::from_nanos(self.nanos_per_byte * count as u64);
        let at = self.busy + self.latency;
        self.held += count;
        self.flight.push_back((at, bytes[..count].to_vec()));
        (Io::Done(count), at)
    }

    /// No more will be written.
    pub(crate) fn finish(&mut self, now: Instant) -> Instant {
        let at = self.busy.max(now) + self.latency;
        self.fin.get_or_insert(at);
        at
    }

    /// Moves what has arrived by `now` to the reader.
    pub(crate) fn arrive(&mut self, now: Instant) {
        if self.cut || self.frozen || self.broken {
            return;
        }
        while let Some((at, _)) = self.flight.front()
            && *at <= now
        {
            if let Some((_, bytes)) = self.flight.pop_front() {
                if self.abandoned {
                    self.held -= bytes.len();
                } else {
                    self.ready.extend(bytes);
                }
            }
        }
        if self.flight.is_empty() && self.fin.is_some_and(|at| at <= now) {
            self.ended = true;
        }
    }

    /// Reads into `to`.
    pub(crate) fn read(&mut self, rng: &mut Random, to: &mut [u8]) -> Io {
        let mut count = self.ready.len().min(to.len());
        if count > 1 && rng.below(4) == 0 {
            count = 1 + rng.below(count.min(40) as u64) as usize;
        }
        if count > 0 {
            for (slot, byte) in to.iter_mut().zip(self.ready.drain(..count)) {
                *slot = byte;
            }
            self.held -= count;
            return Io::Done(count);
        }
        if self.broken {
            return Io::Broken;
        }
        if self.ended {
            return Io::End;
        }
        self.read_armed = true;
        Io::Blocked
    }

    /// Breaks at any byte of what is under way.
    pub(crate) fn reset(&mut self, rng: &mut Random) {
        if self.broken || self.cut {
            return;
        }
        let flying: Vec<u8> = self.flight.drain(..).flat_map(|(_, bytes)| bytes).collect();
        let keep = rng.below(flying.len() as u64 + 1) as usize;
        self.ready.extend(&flying[..keep]);
        self.held = self.ready.len();
        self.broken = true;
    }

    /// The reader goes away: what is there is thrown away.
    pub(crate) fn abandon(&mut self) {
        self.abandoned = true;
        self.held -= self.ready.len();
        self.ready.clear();
    }

    /// Whether something is there to be read, be it the end.
    pub(crate) fn is_readable(&self) -> bool {
        !self.ready.is_empty() || self.ended || self.broken
    }

    /// Whether nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.cut || self.broken || self.abandoned || self.held == 0
    }
}
