//! Accepting clients and leafs: TLS before INFO where it is configured, and how many handshakes a
//! second may begin.

use std::borrow::Cow;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use petiole_core::config::model::{Config, HandshakeFirst, Tls};
use petiole_core::link::Secured;
use petiole_core::wire::error::ProtoError;
use petiole_net::tls::{self, ServerTls};
use petiole_net::transport::{Side, Transport};
use smol::future::{self, FutureExt as _};

use crate::file_error::FileError;

/// How the peers of one listener are greeted, by all threads that serve them.
pub struct Greeter {
    tls: Option<(Tls, ServerTls)>,
    optional: bool,
    /// Connections that are not peers yet.
    pending: AtomicUsize,
    most_pending: usize,
    rate: Option<Arc<Rate>>,
    hint: Hint,
}

/// What to do about a handshake that failed; `None`: nobody knows.
pub type Hint = fn(&io::Error) -> Option<Cow<'static, str>>;

impl Greeter {
    /// For clients. Reads the certificates.
    pub fn for_clients(config: &Config) -> Result<Self, FileError> {
        let most = config.limits.max_connections;
        let greeter = Greeter::new(config.tls.as_ref(), most)?;
        Ok(Greeter {
            optional: config.allow_non_tls,
            ..greeter
        })
    }

    /// For peers that have no choice but TLS where it is configured, of which `most` may be in a
    /// handshake at the same time. Reads the certificates.
    pub fn new(tls: Option<&Tls>, most: usize) -> Result<Self, FileError> {
        let limit = tls.and_then(|tls| tls.rate_limit);
        let tls = match tls {
            None => None,
            Some(tls) => {
                let server =
                    ServerTls::new(tls).map_err(|error| FileError::of(Some(tls), error))?;
                Some((tls.clone(), server))
            }
        };
        Ok(Greeter {
            tls,
            optional: false,
            pending: AtomicUsize::new(0),
            most_pending: most,
            rate: limit.map(|limit| Arc::new(Rate::new(limit))),
            hint: |_| None,
        })
    }

    /// Adds to what the log says of a handshake before INFO which end to change. Of kind `TimedOut` is
    /// the error that it did not end in time.
    pub fn with_hints(self, hint: Hint) -> Self {
        Greeter { hint, ..self }
    }

    /// Takes a connection up to where INFO is due, or what is to be said behind it: `None` if that
    /// never comes.
    pub async fn greet(
        &self,
        socket: Async<TcpStream>,
        peer: SocketAddr,
    ) -> Option<(Transport, Result<Secured, ProtoError>)> {
        let mut transport = self.open(socket);
        let Some((settings, _)) = &self.tls else {
            return Some((transport, Ok(Secured::default())));
        };
        let first = settings.handshake_first;
        if first == HandshakeFirst::No {
            let secured = self.admit(&mut transport);
            return Some((transport, secured));
        }
        if self.pending.fetch_add(1, Ordering::Relaxed) >= self.most_pending {
            self.pending.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let done = self.secure(&mut transport, settings).await;
        self.pending.fetch_sub(1, Ordering::Relaxed);
        match done {
            Ok(Some(secured)) => Some((transport, Ok(secured))),
            Ok(None) => {
                let secured = self.admit(&mut transport);
                Some((transport, secured))
            }
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
                let mut words = Vec::new();
                ProtoError::Throttled.write(&mut words);
                let words = [IoSlice::new(&words)];
                // Whoever cannot take it at once gets nothing.
                let _ =
                    future::poll_once(future::poll_fn(|cx| transport.poll_write(cx, &words))).await;
                None
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                log::error!("{peer} - TLS handshake timeout{}", self.hint(&error));
                None
            }
            Err(error) => {
                let (words, hint) = (tls::words(&error), self.hint(&error));
                log::error!("{peer} - TLS handshake error: {words}{hint}");
                None
            }
        }
    }

    /// A connection as it is accepted: in clear for now.
    pub fn open(&self, socket: Async<TcpStream>) -> Transport {
        match &self.tls {
            None => Transport::clear(socket),
            Some((_, tls)) => Transport::new(socket, Side::Server(tls.clone())),
        }
    }

    /// Whether TLS is configured.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// TLS from the next byte on, to its end, with no deadline of its own.
    /// [`io::ErrorKind::QuotaExceeded`]: too many have begun within the second.
    pub async fn secure_now(&self, transport: &mut Transport) -> io::Result<Secured> {
        if self.rate.as_ref().is_some_and(|rate| !rate.admits()) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        transport.secure().await
    }

    /// What follows the words for an error.
    fn hint(&self, error: &io::Error) -> String {
        (self.hint)(error).map_or_else(String::new, |hint| format!(": {hint}"))
    }

    /// For TLS behind INFO: who has no choice is counted now, who has when it begins.
    fn admit(&self, transport: &mut Transport) -> Result<Secured, ProtoError> {
        let Some(rate) = self.rate.clone() else {
            return Ok(Secured::default());
        };
        if self.optional {
            transport.set_gate(Arc::new(move || rate.admits()));
        } else if !rate.admits() {
            return Err(ProtoError::Throttled);
        }
        Ok(Secured::default())
    }

    /// Says a second later how many were turned away by then, unless that is about to be said.
    pub async fn report_refusals(&self) {
        if let Some(rate) = &self.rate {
            rate.report().await;
        }
    }

    /// TLS first; `None` for a peer that waits for INFO.
    async fn secure(
        &self,
        transport: &mut Transport,
        settings: &Tls,
    ) -> io::Result<Option<Secured>> {
        if let HandshakeFirst::After(patience) = settings.handshake_first {
            let speaks = transport.begins_with_tls();
            let silent = async {
                Timer::after(patience).await;
                Ok(false)
            };
            // What it is will be seen behind INFO.
            if !speaks.or(silent).await? {
                return Ok(None);
            }
        }
        let late = async {
            Timer::after(settings.timeout).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        self.secure_now(transport).or(late).await.map(Some)
    }

    /// What to say at the start.
    pub fn warn(&self) {
        let first = self.tls.as_ref().map(|(tls, _)| tls.handshake_first);
        if first == Some(HandshakeFirst::Yes) {
            log::warn!(
                "Clients that are not using \"TLS Handshake First\" option will fail to connect"
            );
            if self.optional {
                log::warn!(
                    "allow_non_tls has no effect: with handshake_first clients in clear fail"
                );
            }
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Handshakes per second.
struct Rate {
    limit: u32,
    window: Mutex<Window>,
    /// Somebody waits to say how many were refused.
    reporting: AtomicBool,
}

struct Window {
    since: Instant,
    begun: u32,
    refused: u32,
}

impl Rate {
    fn new(limit: u32) -> Self {
        Rate {
            limit,
            window: Mutex::new(Window {
                since: Instant::now(),
                begun: 0,
                refused: 0,
            }),
            reporting: AtomicBool::new(false),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Window) -> T) -> T {
        act(&mut self.window.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn admits(&self) -> bool {
        self.with(|window| {
            if window.since.elapsed() >= SECOND {
                (window.since, window.begun) = (Instant::now(), 0);
            }
            let admitted = window.begun < self.limit;
            let count = if admitted {
                &mut window.begun
            } else {
                &mut window.refused
            };
            *count = count.saturating_add(1);
            admitted
        })
    }

    async fn report(&self) {
        if self.with(|window| window.refused) == 0 || self.reporting.swap(true, Ordering::Relaxed) {
            return;
        }
        Timer::after(SECOND).await;
        self.reporting.store(false, Ordering::Relaxed);
        let refused = self.with(|window| std::mem::take(&mut window.refused));
        log::warn!("Rejected {refused} connections due to TLS rate limiting");
    }
}
