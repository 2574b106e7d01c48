//! How many leafs the whole server takes in, and what the others are told.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_io::{Async, Timer};
use petiole_core::config::model::{HandshakeFirst, LeafListener};
use petiole_core::link::admission::Admission;
use petiole_core::time::Instant;
use petiole_core::wire::error::ProtoError;

/// The time between two lines about leafs that were turned away.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The rate of handshakes of all listeners for leafs.
pub(crate) struct Throttle {
    per_second: NonZeroU32,
    speaks: bool,
    state: Mutex<State>,
}

struct State {
    admission: Admission,
    /// Turned away since the last line about it.
    turned_away: u64,
    reporting: bool,
}

impl Throttle {
    /// `None`: without a limit.
    pub(crate) fn new(listener: &LeafListener) -> Option<Self> {
        let per_second = listener.max_handshakes?;
        let first = listener.tls.as_ref().map(|tls| tls.handshake_first);
        Some(Throttle {
            per_second,
            speaks: first.is_none_or(|first| first == HandshakeFirst::No),
            state: Mutex::new(State {
                admission: Admission::new(per_second),
                turned_away: 0,
                reporting: false,
            }),
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Judges a leaf that has connected: whether it may begin its handshake, else how long it is to stay
    /// away.
    pub(crate) fn judge(&self, now: Instant) -> Result<(), Duration> {
        self.with(|state| {
            let judged = state.admission.admit(now);
            state.turned_away += u64::from(judged.is_err());
            judged
        })
    }

    /// Tells a leaf that has just connected when to come back, and closes. In clear, in place of INFO: it
    /// would begin TLS behind that, and not understand us. Where TLS comes first, nothing is understood
    /// at all.
    pub(crate) fn turn_away(&self, socket: &Async<TcpStream>, wait: Duration) {
        let mut socket = socket.get_ref();
        if self.speaks {
            let mut words = Vec::new();
            ProtoError::ThrottledFor(wait).write(&mut words);
            // There is room for a line in a connection that is new; else it hears nothing.
            let _ = socket.write_all(&words);
        }
        // It may have gone.
        let _ = socket.shutdown(Shutdown::Write);
    }

    /// Whether the leaf that was turned away is the first since the last line about it: then
    /// [`Throttle::report`] is due.
    pub(crate) fn begins_to_count(&self) -> bool {
        self.with(|state| !std::mem::replace(&mut state.reporting, true))
    }

    /// Says in a second how many were turned away by then.
    pub(crate) async fn report(&self) {
        Timer::after(REPORT_EVERY).await;
        let count = self.with(|state| {
            state.reporting = false;
            std::mem::take(&mut state.turned_away)
        });
        let rate = self.per_second;
        log::warn!(
            "Told {count} leafs to come back later: not more than {rate} are taken in per second \
             (max_handshakes_per_second)"
        );
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use petiole_core::config::model::Tls;
    use std::io::Read as _;
    use std::net::TcpListener;

    /// What a leaf reads when it is turned away.
    fn heard(listener: LeafListener) -> String {
        let throttle = Throttle::new(&listener).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut leaf = TcpStream::connect(port.local_addr().unwrap()).unwrap();
        let (socket, _) = port.accept().unwrap();
        throttle.turn_away(&Async::new(socket).unwrap(), Duration::from_millis(2500));
        let mut heard = String::new();
        leaf.read_to_string(&mut heard).unwrap();
        heard
    }

    #[test]
    fn a_leaf_is_told_before_tls_or_not_at_all() {
        let tls = |handshake_first| LeafListener {
            tls: Some(Tls {
                handshake_first,
                ..Tls::default()
            }),
            ..LeafListener::default()
        };
        let words = "-ERR 'Connection throttling is active. Please try again in 2500 ms.'\r\n";
        assert_eq!(heard(LeafListener::default()), words);
        assert_eq!(heard(tls(HandshakeFirst::No)), words);
        assert_eq!(heard(tls(HandshakeFirst::Yes)), "");
        let either = HandshakeFirst::After(Duration::from_millis(50));
        assert_eq!(heard(tls(either)), "");
    }

    #[test]
    fn without_a_limit_there_is_none() {
        let listener = LeafListener {
            max_handshakes: None,
            ..LeafListener::default()
        };
        assert!(Throttle::new(&listener).is_none());
    }
}
