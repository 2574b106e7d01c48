//! What the other threads of the server hand to one of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use petiole_core::link::LinkId;
use petiole_core::link::sample::Sample;

use crate::system::{Happened, Load};

/// Something from another thread.
#[derive(Debug)]
pub(crate) enum Parcel {
    /// What its shard says to ours.
    Lent(Vec<u8>),
    /// Ours, which it has taken in.
    Returned(Vec<u8>),
    /// What somebody wants to hear of, for the first thread to say.
    Happened(Box<Happened>),
    /// A request that a client of ours answered, for us to tell of.
    Answered(Box<Sample>),
    /// The first thread wants to know, in the round of this number, what our links come to.
    Count(u64),
    /// That is this.
    Counted(u64, Box<Load>),
    /// A link of ours gives way to a newer one of the same leaf.
    Superseded(LinkId),
    /// The server at the other end of a link of ours is one that we have dialled.
    Looped(LinkId),
    /// Accounts have come or changed: what there is to do is the same for all.
    Accounts,
}

/// Whether the thread is to look at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    Now,
    /// When it has something else to do, too.
    Sometime,
}

/// Where the other threads leave what is for one of them.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    arrived: Mutex<Arrived>,
    /// There is something. Looked at before each read, so that what another thread knew before it
    /// answered a client is known here when that client speaks to us.
    filled: AtomicBool,
    /// Its thread waits for room with the others.
    waits: AtomicBool,
}

#[derive(Debug, Default)]
struct Arrived {
    /// Each with the number of the thread it is from.
    parcels: Vec<(usize, Parcel)>,
    waker: Option<Waker>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves something, in the order of the calls of one thread.
    pub(crate) fn put(
        &self,
        from: usize,
        parcels: impl IntoIterator<Item = Parcel>,
        urgency: Urgency,
    ) {
        let mut arrived = self.lock();
        arrived
            .parcels
            .extend(parcels.into_iter().map(|parcel| (from, parcel)));
        self.filled.store(true, Ordering::Release);
        let waker = match urgency {
            Urgency::Now => arrived.waker.take(),
            Urgency::Sometime => None,
        };
        drop(arrived);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes all there is.
    #[inline]
    pub(crate) fn take(&self) -> Vec<(usize, Parcel)> {
        if !self.filled.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut arrived = self.lock();
        self.filled.store(false, Ordering::Release);
        std::mem::take(&mut arrived.parcels)
    }

    /// Ready when there is something.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut arrived = self.lock();
        if !arrived.parcels.is_empty() {
            return Poll::Ready(());
        }
        arrived.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Says that its thread needs its chunks back, or does not.
    pub(crate) fn set_waiting(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// How urgent it is to give a chunk back.
    pub(crate) fn urgency(&self) -> Urgency {
        if self.waits.load(Ordering::Relaxed) {
            Urgency::Now
        } else {
            Urgency::Sometime
        }
    }
}
