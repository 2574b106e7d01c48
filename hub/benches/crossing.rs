//! How a message best crosses from one thread's shard to another's: three ways, the same shards.
//!
//! `cargo bench -p petiole-hub --bench crossing` prints processor time and elapsed time per message,
//! and ratios to the way that is used. A client's batches of 32 KiB are read on one thread; the
//! subscriber is on the other one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use petiole_core::config::model::Config;
use petiole_core::link::queue::WritePlan;
use petiole_core::link::sibling::Sibling;
use petiole_core::link::{LinkId, Secured, Server};
use petiole_core::random::Random;
use petiole_core::shard::HIGH_WATER;
use petiole_core::time::Instant as CoreInstant;
use petiole_hub::Peer;
use petiole_leaf::Node as Base;
use rustix::time::{ClockId, clock_gettime};

const NOW: CoreInstant = CoreInstant::from_nanos(1_000_000_000);
/// What one read brings.
const BATCH: usize = 32 << 10;
/// Bytes that may be on their way before the producer is held.
const WINDOW: usize = HIGH_WATER;

/// A shard, its link to the other one, and its client.
struct Side {
    base: Base<Peer>,
    sibling: LinkId,
    client: LinkId,
}

impl Side {
    fn new(mut base: Base<Peer>) -> Side {
        let sibling = base.shard_mut().open_sibling(NOW, Peer::Sibling(Sibling));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000));
        let client = base.accept(NOW, address, Secured::default());
        base.handle_bytes(NOW, client, b"CONNECT {\"verbose\":false}\r\n");
        let mut side = Side {
            base,
            sibling,
            client,
        };
        side.drain();
        side
    }

    fn pair() -> (Side, Side) {
        let config = Config::default();
        let server = Server {
            id: "N".into(),
            name: "N".into(),
            toolchain: "",
            host: "h".into(),
            port: 1,
            headers: true,
        };
        let base = Base::of(&config, server, Box::new(Random::new(1)), NOW);
        let other = base.another(Box::new(Random::new(2)));
        let (mut left, mut right) = (Side::new(base), Side::new(other));
        right.base.handle_bytes(NOW, right.client, b"SUB a 1\r\n");
        for _ in 0..2 {
            left.lend().iter().for_each(|chunk| right.take(chunk));
            right.lend().iter().for_each(|chunk| left.take(chunk));
        }
        (left, right)
    }

    fn lend(&mut self) -> Vec<Vec<u8>> {
        while self.base.shard_mut().poll_wake().is_some() {}
        let chunks = self.base.shard_mut().lend(self.sibling);
        chunks.into_iter().flatten().collect()
    }

    fn take(&mut self, chunk: &[u8]) {
        self.base.shard_mut().handle_lent(NOW, self.sibling, chunk);
    }

    fn give_back(&mut self, chunk: Vec<u8>) {
        self.base
            .shard_mut()
            .handle_returned(NOW, self.sibling, chunk);
    }

    /// Writes what waits for the client to nowhere. Answers how many bytes that were.
    fn drain(&mut self) -> usize {
        let shard = self.base.shard_mut();
        while shard.poll_wake().is_some() {}
        let mut all = 0;
        while shard.wants(self.client).write {
            let mut plan = WritePlan::new();
            shard.poll_transmit(self.client, &mut plan);
            let count = plan.iter().map(|piece| piece.len()).sum();
            drop(plan);
            shard.handle_transmitted(NOW, self.client, count);
            all += count;
        }
        all
    }
}

/// What takes the chunks of one side to the other.
trait Way {
    fn run(left: Side, right: Side, batches: usize, batch: &[u8], per_batch: usize);
}

fn publish(
    left: &mut Side,
    batches: usize,
    batch: &[u8],
    per_batch: usize,
    done: &AtomicUsize,
    mut cross: impl FnMut(&mut Side, Vec<Vec<u8>>),
) {
    for number in 1..=batches {
        left.base.handle_bytes(NOW, left.client, batch);
        let chunks = left.lend();
        cross(left, chunks);
        let waiting = || number * per_batch - done.load(Ordering::Acquire);
        while waiting() * batch.len() / per_batch > WINDOW {
            thread::yield_now();
        }
    }
}

/// Left where the other thread finds it, which is woken once a batch.
struct HandedOver;

impl Way for HandedOver {
    fn run(mut left: Side, mut right: Side, batches: usize, batch: &[u8], per_batch: usize) {
        let (give, taken) = channel::<Vec<Vec<u8>>>();
        let (back, returned) = channel();
        let done = Arc::new(AtomicUsize::new(0));
        let counted = done.clone();
        let other = thread::spawn(move || {
            while let Ok(chunks) = taken.recv() {
                for chunk in chunks {
                    right.take(&chunk);
                    let _ = back.send(chunk);
                }
                right.drain();
                counted.fetch_add(per_batch, Ordering::Release);
            }
        });
        publish(
            &mut left,
            batches,
            batch,
            per_batch,
            &done,
            |left, chunks| {
                give.send(chunks).unwrap();
                returned.try_iter().for_each(|chunk| left.give_back(chunk));
            },
        );
        drop(give);
        other.join().unwrap();
    }
}

/// Delivered in place, under the other shard's lock; the other thread writes what waits.
struct InPlace;

impl Way for InPlace {
    fn run(mut left: Side, right: Side, batches: usize, batch: &[u8], per_batch: usize) {
        let right = Arc::new(Mutex::new(right));
        let (wake, woken) = channel();
        let done = Arc::new(AtomicUsize::new(0));
        let (counted, theirs) = (done.clone(), right.clone());
        let other = thread::spawn(move || {
            while woken.recv().is_ok() {
                let waiting = 1 + woken.try_iter().count();
                theirs.lock().unwrap().drain();
                counted.fetch_add(per_batch * waiting, Ordering::Release);
            }
        });
        publish(
            &mut left,
            batches,
            batch,
            per_batch,
            &done,
            |left, chunks| {
                let mut right = right.lock().unwrap();
                for chunk in chunks {
                    right.take(&chunk);
                    left.give_back(chunk);
                }
                drop(right);
                wake.send(()).unwrap();
            },
        );
        drop(wake);
        other.join().unwrap();
    }
}

/// Through a socket pair, as between two servers.
struct Socket;

impl Way for Socket {
    fn run(mut left: Side, mut right: Side, batches: usize, batch: &[u8], per_batch: usize) {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        let counted = done.clone();
        let other = thread::spawn(move || {
            let mut length = [0; 8];
            let mut chunk = Vec::new();
            while theirs.read_exact(&mut length).is_ok() {
                let [a, b, c, d, last, ..] = length;
                chunk.resize(u32::from_ne_bytes([a, b, c, d]) as usize, 0);
                theirs.read_exact(&mut chunk).unwrap();
                right.take(&chunk);
                right.drain();
                if last == 1 {
                    counted.fetch_add(per_batch, Ordering::Release);
                }
            }
        });
        publish(
            &mut left,
            batches,
            batch,
            per_batch,
            &done,
            |left, chunks| {
                let count = chunks.len();
                for (at, chunk) in chunks.into_iter().enumerate() {
                    let mut head = [0; 8];
                    head[..4].copy_from_slice(&(chunk.len() as u32).to_ne_bytes());
                    head[4] = u8::from(at + 1 == count);
                    ours.write_all(&head).unwrap();
                    ours.write_all(&chunk).unwrap();
                    left.give_back(chunk);
                }
            },
        );
        drop(ours);
        other.join().unwrap();
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nanoseconds of processor and of elapsed time per message: the best of some rounds, as whatever
/// else the machine does only adds.
fn measure<W: Way>(size: usize) -> (f64, f64) {
    let body = "x".repeat(size);
    let message = format!("PUB a {size}\r\n{body}\r\n");
    let per_batch = (BATCH / message.len()).max(1);
    let batch = message.repeat(per_batch);
    let batches = 400_000 / per_batch;
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..7 {
        let (left, right) = Side::pair();
        let (cpu, wall) = (processor_time(), Instant::now());
        W::run(left, right, batches, batch.as_bytes(), per_batch);
        let count = (batches * per_batch) as f64;
        let cpu = (processor_time() - cpu).as_nanos() as f64 / count;
        let wall = wall.elapsed().as_nanos() as f64 / count;
        best = (best.0.min(cpu), best.1.min(wall));
    }
    best
}

fn main() {
    println!("payload  way          cpu ns  ratio  elapsed ns  ratio");
    for size in [16, 128, 1024, 16 << 10] {
        let base = measure::<HandedOver>(size);
        for (name, (cpu, wall)) in [
            ("handed over", base),
            ("in place", measure::<InPlace>(size)),
            ("socket pair", measure::<Socket>(size)),
        ] {
            println!(
                "{size:>7}  {name:<11}  {cpu:>6.0}  {:>5.2}  {wall:>10.0}  {:>5.2}",
                cpu / base.0,
                wall / base.1,
            );
        }
    }
}
