//! One socket and one link of an engine: reads what arrives, writes what waits, wakes nobody in
//! vain.
//!
//! Everything here belongs to one thread. The engine does no I/O and is only borrowed within one
//! poll, never across an await.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_io::Timer;
use petiole_core::link::queue::WritePlan;
use petiole_core::link::websocket::Farewell;
use petiole_core::link::{Encoding, Secured};
use petiole_core::shard::Wants;
use petiole_core::time::Instant;
use smol::future::{self, FutureExt as _};
use std::future::Future as _;

use crate::clock::Clock;
use crate::transport::Transport;

/// Bytes that one read may bring. All links of a thread share the buffer; an idle link owns none, and
/// what no burst has filled takes no memory. Twice as much saves little more, and leaves the cache.
const READ_BUFFER: usize = 128 << 10;

/// How long a closed connection is read from so that the peer gets our last words: data that
/// arrives for a socket that is gone would make the system throw them away.
const LINGER: Duration = Duration::from_millis(500);
/// Bytes that are thrown away meanwhile.
const LINGER_BYTES: usize = 1 << 20;

/// What a driver needs of an engine (the methods of a shard, by the same names).
pub trait Engine {
    /// Names a link.
    type Id: Copy + Eq + Hash;
    /// Where to read into.
    fn read_slot<'a>(&'a mut self, id: Self::Id, shared: &'a mut [u8]) -> &'a mut [u8];
    /// So much was read.
    fn handle_read(&mut self, now: Instant, id: Self::Id, shared: &[u8], count: usize);
    /// What to do.
    fn wants(&self, id: Self::Id) -> Wants;
    /// What was read behind the place where [`Wants::upgrade`] begins.
    fn take_unread(&mut self, id: Self::Id) -> Vec<u8>;
    /// The upgrade is done.
    fn handle_upgraded(&mut self, now: Instant, id: Self::Id, secured: Secured);
    /// How what is written is put into blocks and frames.
    fn encoding(&self, id: Self::Id) -> Encoding;
    /// What to write.
    fn poll_transmit<'a>(&'a self, id: Self::Id, plan: &mut WritePlan<'a>);
    /// So much was written.
    fn handle_transmitted(&mut self, now: Instant, id: Self::Id, count: usize);
    /// Nothing more can be written for now.
    fn handle_blocked(&mut self, now: Instant, id: Self::Id);
    /// Why a connection ended, in words.
    fn explain(&self, id: Self::Id, error: &io::Error) -> String;
    /// In which words we close a WebSocket, if in particular ones.
    fn farewell(&self, _: Self::Id) -> Option<Farewell> {
        None
    }
    /// The connection is gone.
    fn handle_closed(&mut self, now: Instant, id: Self::Id, cause: &str);
    /// A link whose driver shall look again.
    fn poll_wake(&mut self) -> Option<Self::Id>;
    /// Whether the role has something to do.
    fn has_events(&self) -> bool;
    /// When it wants to hear of the time.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Time has passed.
    fn handle_timeout(&mut self, now: Instant);
}

/// An engine and what its drivers share.
pub struct Thread<E: Engine> {
    engine: RefCell<E>,
    clock: Clock,
    buffer: RefCell<Vec<u8>>,
    drivers: RefCell<HashMap<E::Id, Waker>>,
    /// The deadline that the timer task waits for.
    timer_at: Cell<Option<Instant>>,
    timer: RefCell<Option<Waker>>,
    events: RefCell<Option<Waker>>,
}

impl<E: Engine> Thread<E> {
    /// Puts an engine on this thread.
    pub fn new(engine: E, clock: Clock) -> Rc<Self> {
        Rc::new(Thread {
            engine: RefCell::new(engine),
            clock,
            buffer: RefCell::new(vec![0; READ_BUFFER]),
            drivers: RefCell::new(HashMap::new()),
            timer_at: Cell::new(None),
            timer: RefCell::new(None),
            events: RefCell::new(None),
        })
    }

    /// Hands the engine something, then wakes whom that concerns.
    pub fn with<T>(&self, act: impl FnOnce(&mut E, Instant) -> T) -> T {
        let mut engine = self.engine.borrow_mut();
        let result = act(&mut engine, self.clock.now());
        self.pump(&mut engine, None);
        result
    }

    /// Wakes the drivers and tasks that have something to do, except `current`, which is running.
    fn pump(&self, engine: &mut E, current: Option<E::Id>) {
        let drivers = self.drivers.borrow();
        while let Some(id) = engine.poll_wake() {
            if current != Some(id)
                && let Some(waker) = drivers.get(&id)
            {
                waker.wake_by_ref();
            }
        }
        if engine.has_events()
            && let Some(waker) = self.events.borrow_mut().take()
        {
            waker.wake();
        }
        let earlier = match (engine.poll_timeout(), self.timer_at.get()) {
            (Some(wanted), Some(set)) => wanted < set,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if earlier && let Some(waker) = self.timer.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Tells the engine of the time whenever it asked for it. Never ends.
    pub async fn keep_time(&self) {
        let mut timer = Timer::never();
        future::poll_fn(|cx| {
            loop {
                let mut engine = self.engine.borrow_mut();
                let now = self.clock.now();
                if engine.poll_timeout().is_some_and(|at| at <= now) {
                    engine.handle_timeout(now);
                    self.pump(&mut engine, None);
                    continue;
                }
                let wanted = engine.poll_timeout();
                *self.timer.borrow_mut() = Some(cx.waker().clone());
                if self.timer_at.replace(wanted) != wanted {
                    match wanted {
                        Some(at) => timer.set_at(self.clock.at(at)),
                        None => timer = Timer::never(),
                    }
                }
                if wanted.is_none() || Pin::new(&mut timer).poll(cx).is_pending() {
                    return Poll::Pending;
                }
                // Fired: ask again, as the system's timer may be a little early.
                self.timer_at.set(None);
            }
        })
        .await
    }

    /// Ends when the engine has events for the role.
    pub async fn events(&self) {
        future::poll_fn(|cx| {
            if self.engine.borrow().has_events() {
                return Poll::Ready(());
            }
            *self.events.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Drives a link until it ends, and tells the engine so.
    pub async fn drive(&self, id: E::Id, mut transport: Transport) {
        let end = future::poll_fn(|cx| self.poll_link(cx, id, &mut transport)).await;
        self.drivers.borrow_mut().remove(&id);
        self.with(|engine, now| {
            let cause = match &end {
                Ok(()) => {
                    if let Some(farewell) = engine.farewell(id) {
                        transport.set_farewell(farewell);
                    }
                    "closed by us".into()
                }
                Err(error) => engine.explain(id, error),
            };
            engine.handle_closed(now, id, &cause);
        });
        if end.is_ok() {
            // Boxed: its scrap buffer would otherwise be part of every idle connection.
            Box::pin(linger(transport)).await;
        }
    }

    /// Reads and writes until neither can go on. `Ready(Ok)`: the engine wants it closed.
    fn poll_link(
        &self,
        cx: &mut Context<'_>,
        id: E::Id,
        transport: &mut Transport,
    ) -> Poll<io::Result<()>> {
        let mut engine = self.engine.borrow_mut();
        self.register(id, cx);
        let mut has_read = false;
        loop {
            let wants = engine.wants(id);
            if wants.close {
                return Poll::Ready(Ok(()));
            }
            if let Some(upgrade) = wants.upgrade {
                let unread = engine.take_unread(id);
                transport.begin(upgrade, unread)?;
            }
            if transport.is_upgrading() {
                if wants.write {
                    // Our last words came too late for what was, and too early for what was to be.
                    return Poll::Ready(Ok(()));
                }
                let secured = ready!(transport.poll_upgrade(cx))?;
                engine.handle_upgraded(self.clock.now(), id, secured);
                self.pump(&mut engine, Some(id));
                continue;
            }
            if wants.write {
                if transport.is_framed() {
                    transport.set_encoding(engine.encoding(id));
                }
                let mut plan = WritePlan::new();
                engine.poll_transmit(id, &mut plan);
                let written = transport.poll_write(cx, &plan);
                drop(plan);
                match written {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    Poll::Ready(Ok(count)) => {
                        engine.handle_transmitted(self.clock.now(), id, count);
                        self.pump(&mut engine, Some(id));
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        engine.handle_blocked(self.clock.now(), id);
                        self.pump(&mut engine, Some(id));
                    }
                }
            }
            // What the transport holds back of it (a record, a frame) goes out as the socket takes it.
            if let Poll::Ready(Err(error)) = transport.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            if !wants.read {
                return Poll::Pending;
            }
            if has_read {
                // Others have waited for this read: what it woke is written before the next one,
                // so that batches stay large and nobody starves.
                if transport.may_have_more() {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            let mut buffer = self.buffer.borrow_mut();
            let read = transport.poll_read(cx, engine.read_slot(id, &mut buffer));
            match read {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(Ok(count)) => {
                    engine.handle_read(self.clock.now(), id, &buffer, count);
                    self.pump(&mut engine, Some(id));
                    has_read = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn register(&self, id: E::Id, cx: &Context<'_>) {
        let mut drivers = self.drivers.borrow_mut();
        match drivers.get_mut(&id) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                drivers.insert(id, cx.waker().clone());
            }
        }
    }
}

/// Lets the peer take our last bytes, and throws away what it still sends: half a second at most.
pub async fn linger(mut transport: Transport) {
    let mut scrap = [0; 4096];
    let mut left = LINGER_BYTES;
    let mut closing = false;
    let drain = future::poll_fn(|cx| {
        if !closing {
            if ready!(transport.poll_flush(cx)).is_err() || transport.shutdown(cx).is_err() {
                return Poll::Ready(());
            }
            closing = true;
        }
        loop {
            match transport.poll_discard(cx, &mut scrap) {
                Poll::Ready(Ok(count)) if count > 0 && left > count => left -= count,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let late = async {
        Timer::after(LINGER).await;
        true
    };
    let drained = async {
        drain.await;
        false
    };
    if drained.or(late).await {
        transport.forget();
    }
}
