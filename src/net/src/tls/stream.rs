//! One TLS session over one socket, as a stream.
//!
//! The socket is read in large steps into a buffer that all sessions of a thread share, and records
//! are decrypted where they lie. A session owns a buffer only while something is on its way: half a
//! record, plaintext that found no room, ciphertext that the socket did not take.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem;
use std::task::{Context, Poll, Waker, ready};

use petiole_core::auth::certificate::Certificate;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, Error, HandshakeKind, ProtocolVersion};

use super::settings::{self, ClientTls, ServerTls};
use super::verify::{self, Refused};
use super::words::TlsError;
use crate::tcp::Tcp;

/// Ciphertext that one read may bring, and plaintext that one write may take.
const STEP: usize = 64 << 10;

/// What may wait for the rest of it: the longest handshake message, a chain of certificates. Records
/// are shorter.
const UNFINISHED_MAX: usize = 64 << 10;

/// What a record holds.
const RECORD: usize = 16 << 10;

/// What encryption adds to a step at most: headers, nonces and tags of its records, and a key
/// update.
const OVERHEAD: usize = 1 << 10;

/// A record's header.
const HEADER: usize = 5;

/// What is kept of a peer's first bytes if they are no TLS.
const FIRST: usize = 16;

/// What all sessions of a thread share.
struct Scratch {
    /// Ciphertext read, or plaintext gathered.
    input: Vec<u8>,
    /// Ciphertext made.
    output: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        input: vec![0; UNFINISHED_MAX + STEP / 2],
        output: vec![0; STEP + OVERHEAD],
    });
}

/// A TLS session over a socket.
pub struct TlsStream {
    tcp: Tcp,
    session: Session,
    /// Who was dialled; empty on the side that accepted.
    host: Box<str>,
    /// Ciphertext that was read and not consumed.
    incoming: Buffer,
    /// Plaintext that found no room.
    plain: Buffer,
    /// Ciphertext that the socket did not take.
    outgoing: Buffer,
    /// `incoming` was left for want of room, not because it is unfinished.
    has_more: bool,
    /// The peer said goodbye or its connection ended.
    has_ended: bool,
    /// Something went wrong: the session is never asked again.
    is_broken: bool,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing of the peer was looked at.
    New,
    Handshake,
    Open,
    /// We have said goodbye; the socket is shut down once that is written.
    Closing,
    /// That is written.
    Closed,
}

/// What was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The cipher suite, like `TLS_AES_128_GCM_SHA256`.
    pub suite: String,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// The names of the certificate that the peer showed.
    pub peer: Option<Certificate>,
}

impl TlsStream {
    /// The side that dialled `host`, a name or an address. `unread`: what was read from the socket
    /// and belongs to the session.
    pub fn client(
        tcp: Tcp,
        tls: &ClientTls,
        host: &str,
        unread: &[u8],
    ) -> Result<TlsStream, TlsError> {
        let name = settings::name(host)?;
        let session = UnbufferedClientConnection::new(tls.config.clone(), name);
        let session = Session::Client(session.map_err(TlsError::Other)?);
        Ok(TlsStream::new(tcp, session, host, unread))
    }

    /// The side that accepted. `unread`: what was read from the socket and belongs to the session.
    pub fn server(tcp: Tcp, tls: &ServerTls, unread: &[u8]) -> Result<TlsStream, TlsError> {
        let session = UnbufferedServerConnection::new(tls.config.clone());
        let session = Session::Server(session.map_err(TlsError::Other)?);
        Ok(TlsStream::new(tcp, session, "", unread))
    }

    fn new(tcp: Tcp, session: Session, host: &str, unread: &[u8]) -> TlsStream {
        TlsStream {
            tcp,
            session,
            host: host.into(),
            incoming: Buffer::of(unread),
            plain: Buffer::default(),
            outgoing: Buffer::default(),
            has_more: true,
            has_ended: false,
            is_broken: false,
            phase: Phase::New,
        }
    }

    /// Shakes hands and writes all that belongs to it. After an error, which the peer is told of if
    /// the socket takes it at once, the session is of no use.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        if self.is_broken {
            return Poll::Ready(Err(TlsError::Closed));
        }
        let done = self.poll_agree(cx);
        if let Poll::Ready(Err(_)) = done {
            self.is_broken = true;
            let _ = self.poll_flush(cx);
        }
        done
    }

    fn poll_agree(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        loop {
            if self.has_more && self.session.common().is_handshaking() {
                self.consume_incoming(&mut [])?;
            }
            ready!(self.poll_flush(cx)).map_err(TlsError::Io)?;
            if !self.session.common().is_handshaking() {
                self.phase = Phase::Open;
                return Poll::Ready(Ok(()));
            }
            if self.has_ended {
                return Poll::Ready(Err(TlsError::Closed));
            }
            ready!(self.poll_fill(cx, &mut []))?;
        }
    }

    /// Reads plaintext; 0 is the end. Also writes what an earlier write left.
    ///
    /// What goes wrong with the session is a [`TlsError`] within the error; after that, and for no
    /// room, it is always 0.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        // Its error comes again with the next write; there may be something to read.
        let _ = self.poll_flush(cx);
        if self.is_broken {
            return Poll::Ready(Ok(0));
        }
        let read = self.poll_plain(cx, into);
        if let Poll::Ready(Err(_)) = read {
            self.is_broken = true;
            let _ = self.poll_flush(cx);
        }
        read.map_err(Into::into)
    }

    fn poll_plain(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<Result<usize, TlsError>> {
        while !into.is_empty() {
            let count = if !self.plain.is_empty() {
                self.plain.take(into)
            } else if self.has_more {
                self.consume_incoming(into)?
            } else if self.has_ended {
                break;
            } else {
                ready!(self.poll_fill(cx, into))?
            };
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
        }
        Poll::Ready(Ok(0))
    }

    /// Takes plaintext, at most 64 KiB of it, and writes its records. Takes none while those of an
    /// earlier call are not written; [`poll_flush`](Self::poll_flush) and
    /// [`poll_read`](Self::poll_read) write them too.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_broken || self.phase != Phase::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_flush(cx))?;
        let taken = SCRATCH.with_borrow_mut(|Scratch { input, output }| {
            let plain = gather(pieces, input);
            if plain.is_empty() {
                return Ok(0);
            }
            let length = self.seal(Want::Encrypt(plain, output))?;
            self.send(cx, output.get(..length).unwrap_or_default())?;
            Ok(plain.len())
        });
        Poll::Ready(taken)
    }

    /// Writes what is left of earlier writes.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let rest = [IoSlice::new(self.outgoing.filled())];
            match ready!(self.tcp.poll_write(cx, &rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.outgoing.skip(count),
            }
        }
        if self.phase == Phase::Closing {
            self.phase = Phase::Closed;
            return Poll::Ready(self.tcp.shutdown());
        }
        Poll::Ready(Ok(()))
    }

    /// The connection below.
    pub(crate) fn tcp(&mut self) -> &mut Tcp {
        &mut self.tcp
    }

    /// Whether a read may bring bytes without waiting.
    pub fn may_have_more(&self) -> bool {
        let may_come = !self.has_ended && !self.is_broken && self.tcp.may_have_more();
        !self.plain.is_empty() || self.has_more || may_come
    }

    /// Says goodbye: nothing more will be written. What the socket does not take at once,
    /// [`poll_flush`](Self::poll_flush) and [`poll_read`](Self::poll_read) write.
    pub fn shutdown(&mut self) -> io::Result<()> {
        if self.phase == Phase::Closing {
            return Ok(());
        }
        if self.phase == Phase::Open && !self.is_broken {
            let mut goodbye = [0; 128];
            if let Ok(length) = self.seal(Want::Goodbye(&mut goodbye)) {
                self.outgoing
                    .push(goodbye.get(..length).unwrap_or_default());
            }
        }
        self.phase = Phase::Closing;
        match self.poll_flush(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => Ok(()),
        }
    }

    /// What was agreed on, once hands are shaken.
    pub fn facts(&self) -> TlsFacts {
        let common = self.session.common();
        let suite = common.negotiated_cipher_suite().map(settings::suite_words);
        let certificates = common.peer_certificates().unwrap_or_default();
        TlsFacts {
            version: match common.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "1.3",
                Some(ProtocolVersion::TLSv1_2) => "1.2",
                _ => "unknown",
            },
            suite: suite.unwrap_or_default(),
            resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            peer: certificates.first().and_then(verify::peer),
        }
    }

    /// Reads the socket once. Returns the plaintext that this brought, which may be none.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<Result<usize, TlsError>> {
        SCRATCH.with_borrow_mut(|Scratch { input, .. }| {
            let kept = self.incoming.filled().len();
            if kept >= UNFINISHED_MAX {
                let error = Error::General("handshake message too long".into());
                return Poll::Ready(Err(TlsError::Other(error)));
            }
            let end = input.len().min(kept + STEP);
            let count = ready!(self.tcp.poll_read(cx, &mut input[kept..end]));
            let count = count.map_err(TlsError::Io)?;
            if count == 0 {
                self.has_ended = true;
                return Poll::Ready(Ok(0));
            }
            input[..kept].copy_from_slice(self.incoming.filled());
            let bytes = &mut input[..kept + count];
            let (used, filled) = self.consume(bytes, into)?;
            self.incoming = Buffer::of(&bytes[used..]);
            Poll::Ready(Ok(filled))
        })
    }

    fn consume_incoming(&mut self, into: &mut [u8]) -> Result<usize, TlsError> {
        let mut incoming = mem::take(&mut self.incoming);
        let (used, filled) = self.consume(incoming.filled_mut(), into)?;
        incoming.skip(used);
        self.incoming = incoming;
        Ok(filled)
    }

    /// Decrypts as long as there is room: all of it while hands are shaken. Returns what was used of
    /// `bytes` and what was filled of `into`.
    fn consume(&mut self, bytes: &mut [u8], into: &mut [u8]) -> Result<(usize, usize), TlsError> {
        self.has_more = false;
        let bytes = match self.is_tls(bytes)? {
            true => bytes,
            // The side that dialled speaks first, whatever has come.
            false => &mut [],
        };
        let mut used = 0;
        let mut room = Room {
            into,
            filled: 0,
            rest: &mut self.plain,
        };
        loop {
            let common = self.session.common();
            let is_enough = match self.phase {
                Phase::New | Phase::Handshake => !common.is_handshaking() && !common.wants_write(),
                Phase::Open | Phase::Closing | Phase::Closed => room.is_full(),
            };
            if is_enough {
                self.has_more = used < bytes.len();
                break;
            }
            let rest = &mut bytes[used..];
            let want = &mut Want::Read;
            let (discard, next) = self.session.step(rest, want, &mut self.outgoing, &mut room);
            used = bytes.len().min(used + discard);
            match next {
                Ok(Next::Again) => {}
                Ok(Next::Idle | Next::Written(_)) => break,
                Ok(Next::Goodbye | Next::Gone) => {
                    self.has_ended = true;
                    used = bytes.len();
                    break;
                }
                Err(error) => {
                    self.take_alerts(&mut bytes[used..]);
                    return Err(TlsError::explain(error, &self.host, Refused::take()));
                }
            }
        }
        Ok((used, room.filled))
    }

    /// Whether there is enough to go on: the peer's first bytes are a record's header, or have not
    /// come. After that it does not matter.
    fn is_tls(&mut self, bytes: &[u8]) -> Result<bool, TlsError> {
        const ALERT: u8 = 21;
        const HANDSHAKE: u8 = 22;
        if self.phase != Phase::New || bytes.is_empty() {
            return Ok(true);
        }
        match bytes {
            [ALERT | HANDSHAKE, 3, _, _, _, ..] => {
                self.phase = Phase::Handshake;
                Ok(true)
            }
            _ if bytes.len() < HEADER => Ok(false),
            _ => Err(TlsError::NotTls {
                first: bytes[..bytes.len().min(FIRST)].to_vec(),
            }),
        }
    }

    /// What the session has to say about an error.
    fn take_alerts(&mut self, rest: &mut [u8]) {
        let mut room = Room {
            into: &mut [],
            filled: 0,
            rest: &mut self.plain,
        };
        while self.session.common().wants_write() {
            let want = &mut Want::Read;
            let (_, next) = self.session.step(rest, want, &mut self.outgoing, &mut room);
            if !matches!(next, Ok(Next::Again)) {
                return;
            }
        }
    }

    /// Encrypts. Records that wait to be read have to be read first; they are what one read brought.
    fn seal(&mut self, mut want: Want<'_>) -> io::Result<usize> {
        let mut incoming = mem::take(&mut self.incoming);
        let mut room = Room {
            into: &mut [],
            filled: 0,
            rest: &mut self.plain,
        };
        let sealed = loop {
            let rest = incoming.filled_mut();
            let (discard, next) = self
                .session
                .step(rest, &mut want, &mut self.outgoing, &mut room);
            incoming.skip(discard);
            match next {
                Ok(Next::Again) => {}
                Ok(Next::Goodbye) => self.has_ended = true,
                Ok(Next::Written(length)) => break Ok(length),
                Ok(Next::Idle | Next::Gone) => break Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => {
                    self.is_broken = true;
                    break Err(TlsError::explain(error, &self.host, Refused::take()).into());
                }
            }
        };
        self.incoming = incoming;
        sealed
    }

    /// Writes what the socket takes and keeps the rest.
    fn send(&mut self, cx: &mut Context<'_>, mut records: &[u8]) -> io::Result<()> {
        // What the session had to say before comes first.
        while self.outgoing.is_empty() && !records.is_empty() {
            match self.tcp.poll_write(cx, &[IoSlice::new(records)])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => records = records.get(count..).unwrap_or_default(),
                Poll::Pending => break,
            }
        }
        self.outgoing.push(records);
        match self.poll_flush(cx) {
            Poll::Ready(done) => done,
            Poll::Pending => Ok(()),
        }
    }
}

/// The plaintext of one step: a piece as it lies where it fills records, else pieces one after the
/// other, so that small ones do not become records of their own.
fn gather<'a>(pieces: &'a [IoSlice<'_>], into: &'a mut [u8]) -> &'a [u8] {
    let mut pieces = pieces.iter().filter(|piece| !piece.is_empty());
    let Some(first) = pieces.next() else {
        return &[];
    };
    let whole = first.len() - first.len() % RECORD;
    let rest = pieces.clone().next();
    match rest {
        None => return &first[..first.len().min(STEP)],
        Some(_) if whole > 0 => return &first[..whole.min(STEP)],
        Some(_) => {}
    }
    let mut filled = 0;
    for piece in Some(first).into_iter().chain(pieces) {
        let count = piece.len().min(STEP - filled);
        into[filled..filled + count].copy_from_slice(&piece[..count]);
        filled += count;
    }
    &into[..filled]
}

/// A session of either side.
enum Session {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What a step is for.
enum Want<'a> {
    Read,
    /// Plaintext, and where its records go.
    Encrypt(&'a [u8], &'a mut [u8]),
    /// Where the goodbye goes.
    Goodbye(&'a mut [u8]),
}

/// What a step did.
enum Next {
    /// Something; there may be more to do.
    Again,
    /// Nothing: it needs more bytes.
    Idle,
    /// What was wanted, so many bytes of it.
    Written(usize),
    /// The peer will send no more.
    Goodbye,
    /// Both sides have said goodbye.
    Gone,
}

impl Session {
    fn common(&self) -> &CommonState {
        match self {
            Session::Client(session) => session,
            Session::Server(session) => session,
        }
    }

    /// Goes on by one step. Returns how many of the bytes are done with.
    fn step(
        &mut self,
        bytes: &mut [u8],
        want: &mut Want<'_>,
        outgoing: &mut Buffer,
        room: &mut Room<'_>,
    ) -> (usize, Result<Next, Error>) {
        match self {
            Session::Client(session) => {
                step(session.process_tls_records(bytes), want, outgoing, room)
            }
            Session::Server(session) => {
                step(session.process_tls_records(bytes), want, outgoing, room)
            }
        }
    }
}

fn step<Side>(
    status: UnbufferedStatus<'_, '_, Side>,
    want: &mut Want<'_>,
    outgoing: &mut Buffer,
    room: &mut Room<'_>,
) -> (usize, Result<Next, Error>) {
    let mut discard = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(error) => return (discard, Err(error)),
    };
    let next = match state {
        ConnectionState::ReadTraffic(mut traffic) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    room.put(record.payload);
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(Next::Again),
            }
        },
        ConnectionState::EncodeTlsData(mut data) => {
            outgoing.push_with(|into| match data.encode(into) {
                Ok(length) => Ok(Some(length)),
                Err(EncodeError::InsufficientSize(error)) => Err(error.required_size),
                Err(EncodeError::AlreadyEncoded) => Ok(None),
            });
            Ok(Next::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Next::Again)
        }
        ConnectionState::BlockedHandshake => Ok(Next::Idle),
        ConnectionState::WriteTraffic(mut traffic) => {
            let written = match want {
                Want::Read => return (discard, Ok(Next::Idle)),
                Want::Encrypt(plain, into) => traffic.encrypt(plain, into),
                Want::Goodbye(into) => traffic.queue_close_notify(into),
            };
            match written {
                Ok(length) => Ok(Next::Written(length)),
                Err(error) => Err(Error::General(error.to_string())),
            }
        }
        ConnectionState::PeerClosed => Ok(Next::Goodbye),
        ConnectionState::Closed => Ok(Next::Gone),
        // Early data, which is never offered, and what later versions may add.
        _ => Err(Error::General("unexpected state".into())),
    };
    (discard, next)
}

/// Where plaintext goes.
struct Room<'a> {
    into: &'a mut [u8],
    filled: usize,
    /// What does not fit.
    rest: &'a mut Buffer,
}

impl Room<'_> {
    fn is_full(&self) -> bool {
        self.filled == self.into.len()
    }

    fn put(&mut self, plain: &[u8]) {
        let free = &mut self.into[self.filled..];
        let (fits, rest) = plain.split_at(plain.len().min(free.len()));
        free[..fits.len()].copy_from_slice(fits);
        self.filled += fits.len();
        self.rest.push(rest);
    }
}

/// Bytes that wait. Owns no memory while there are none.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Those before are done with.
    at: usize,
}

impl Buffer {
    fn of(bytes: &[u8]) -> Buffer {
        Buffer {
            bytes: bytes.to_vec(),
            at: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.filled().is_empty()
    }

    fn filled(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.at..).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends what `write` writes, which says first how much room it needs.
    fn push_with(&mut self, mut write: impl FnMut(&mut [u8]) -> Result<Option<usize>, usize>) {
        let end = self.bytes.len();
        let Err(needed) = write(&mut []) else {
            return;
        };
        self.bytes.resize(end + needed, 0);
        let written = write(&mut self.bytes[end..]).ok().flatten();
        self.bytes.truncate(end + written.unwrap_or_default());
    }

    fn take(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.filled().len());
        into[..count].copy_from_slice(&self.filled()[..count]);
        self.skip(count);
        count
    }

    fn skip(&mut self, count: usize) {
        self.at += count;
        if self.is_empty() {
            *self = Buffer::default();
        }
    }
}
