//! S2 and WebSocket on top of a byte stream: what both need around their codecs.
//!
//! Owns what was read and not yet decoded, and what was encoded and not yet written; while nothing
//! is under way, neither.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use petiole_core::link::Encoding;
use petiole_core::link::websocket::Farewell;

use crate::s2;
use crate::transport::Carrier;
use crate::ws;

/// Bytes that one read of the stream below may bring.
const READ: usize = 64 << 10;
/// Bytes that are encoded at once: what the core hands over at most.
const WRITE: usize = 128 << 10;
/// What one message of a hub may inflate to. They are streamed: only a hub gone mad exceeds it.
const MOST_INFLATED: u64 = 1 << 30;
/// The code of a close frame: this end is done.
const GOING_AWAY: u16 = 1001;
/// More than this is not kept for the next burst.
const KEEP: usize = 256 << 10;

thread_local! {
    /// Where all framed links of a thread read into.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Where they encode to: mostly written at once and free for the next.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static S2: RefCell<s2::Encoder> = RefCell::new(s2::Encoder::new());
}

/// A codec and what is under way.
pub(crate) struct Framing {
    codec: Codec,
    encoding: Encoding,
    /// Read but not decoded, from `taken` on.
    unread: Vec<u8>,
    taken: usize,
    /// Encoded but not written, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    farewell: Option<Farewell>,
}

enum Codec {
    S2(s2::Decoder),
    WebSocket(ws::Encoder, ws::Decoder),
}

/// What one look at the input came to.
#[derive(Default)]
struct Step {
    consumed: usize,
    produced: usize,
}

impl Framing {
    /// S2; `unread` was read before it was known to be S2.
    pub(crate) fn s2(unread: Vec<u8>) -> Self {
        Self::new(Codec::S2(s2::Decoder::new()), unread)
    }

    /// WebSocket frames; `unread` came behind the answer to the upgrade.
    pub(crate) fn websocket(accepted: ws::Accepted, unread: Vec<u8>) -> Self {
        let encoder = ws::Encoder::new(accepted, fastrand::u64(..));
        let decoder = ws::Decoder::new(accepted, MOST_INFLATED);
        Self::new(Codec::WebSocket(encoder, decoder), unread)
    }

    /// WebSocket frames of a connection that we have upgraded; `unread` came behind the request.
    pub(crate) fn accepted_websocket(
        accepted: ws::Accepted,
        max_message: u64,
        unread: Vec<u8>,
    ) -> Self {
        let encoder = ws::Encoder::accepting(accepted);
        let decoder = ws::Decoder::accepting(accepted, max_message);
        Self::new(Codec::WebSocket(encoder, decoder), unread)
    }

    fn new(codec: Codec, unread: Vec<u8>) -> Self {
        Framing {
            codec,
            encoding: Encoding::default(),
            unread,
            taken: 0,
            unsent: Vec::new(),
            sent: 0,
            farewell: None,
        }
    }

    pub(crate) fn set_encoding(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    /// What [`Framing::close`] will say.
    pub(crate) fn set_farewell(&mut self, farewell: Farewell) {
        self.farewell = Some(farewell);
    }

    pub(crate) fn may_have_more(&self) -> bool {
        self.taken < self.unread.len() || self.codec.has_output()
    }

    /// Decoded bytes; 0 is the end.
    pub(crate) fn poll_read(
        &mut self,
        below: &mut Carrier,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = self.poll_decoded(below, cx, into);
        if let Poll::Ready(Err(_)) = read {
            // What there is to say about it goes out if it can.
            let _ = self.poll_flush(below, cx);
        }
        read
    }

    fn poll_decoded(
        &mut self,
        below: &mut Carrier,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if into.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            while self.may_have_more() {
                let input = self.unread.get(self.taken..).unwrap_or_default();
                let step = self.codec.decode(input, into, &mut self.unsent)?;
                self.taken += step.consumed;
                if self.taken >= self.unread.len() {
                    self.unread = Vec::new();
                    self.taken = 0;
                }
                if step.produced > 0 {
                    return Poll::Ready(Ok(step.produced));
                }
            }
            let mut scratch = SCRATCH.take();
            scratch.resize(READ, 0);
            let read = below.poll_read(cx, &mut scratch);
            let step = match &read {
                Poll::Ready(Ok(count)) if *count > 0 => {
                    let input = scratch.get(..*count).unwrap_or_default();
                    let step = self.codec.decode(input, into, &mut self.unsent);
                    if let Ok(step) = &step {
                        let rest = input.get(step.consumed..).unwrap_or_default();
                        self.unread.extend_from_slice(rest);
                    }
                    step
                }
                _ => Ok(Step::default()),
            };
            SCRATCH.set(scratch);
            let (count, step) = (ready!(read)?, step?);
            if count == 0 || step.produced > 0 {
                return Poll::Ready(Ok(step.produced));
            }
        }
    }

    /// Encodes and writes what it can; nothing is taken while older bytes wait.
    pub(crate) fn poll_write(
        &mut self,
        below: &mut Carrier,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(below, cx))?;
        let mut now: heapless::Vec<IoSlice<'_>, 16> = heapless::Vec::new();
        let mut count = 0;
        for piece in pieces {
            let part = piece
                .get(..(WRITE - count).min(piece.len()))
                .unwrap_or_default();
            if part.is_empty() || now.push(IoSlice::new(part)).is_err() {
                break;
            }
            count += part.len();
        }
        self.unsent = SPARE.take();
        self.unsent.clear();
        self.codec.encode(self.encoding, &now, &mut self.unsent);
        match self.poll_flush(below, cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // What is not written yet is ours to write.
            _ => Poll::Ready(Ok(count)),
        }
    }

    pub(crate) fn poll_flush(
        &mut self,
        below: &mut Carrier,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self.unsent.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let count = ready!(below.poll_write(cx, &[IoSlice::new(rest)]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        self.sent = 0;
        let drained = std::mem::take(&mut self.unsent);
        if (1..=KEEP).contains(&drained.capacity()) {
            SPARE.set(drained);
        }
        below.poll_flush(cx)
    }

    /// Says goodbye, where the framing has a word for it. To be flushed.
    pub(crate) fn close(&mut self) {
        if let Codec::WebSocket(encoder, decoder) = &mut self.codec
            && decoder.closed().is_none()
        {
            match &self.farewell {
                Some(Farewell { code, reason }) => encoder.close(*code, reason, &mut self.unsent),
                None => encoder.close(GOING_AWAY, "", &mut self.unsent),
            }
        }
    }
}

impl Codec {
    fn has_output(&self) -> bool {
        match self {
            Codec::S2(decoder) => decoder.has_output(),
            // The end may have come in one read with the bytes before it.
            Codec::WebSocket(_, decoder) => decoder.waiting() > 0 || decoder.closed().is_some(),
        }
    }

    fn decode(&mut self, input: &[u8], into: &mut [u8], replies: &mut Vec<u8>) -> io::Result<Step> {
        match self {
            Codec::S2(decoder) => {
                let step = decoder.decode(input, into).map_err(io::Error::other)?;
                Ok(Step {
                    consumed: step.consumed,
                    produced: step.produced,
                })
            }
            Codec::WebSocket(encoder, decoder) => {
                let mut step = Step::default();
                if decoder.waiting() == 0 {
                    step.consumed = decoder.feed(input).map_err(|error| {
                        if let Some(code) = error.close_code() {
                            encoder.close(code, "", replies);
                        }
                        io::Error::other(error)
                    })?;
                }
                step.produced = decoder.read(into);
                while let Some(reply) = decoder.take_reply() {
                    encoder.reply(&reply, replies);
                }
                if step.produced == 0
                    && let Some(closed) = decoder.closed()
                {
                    let words = closed.to_string();
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, words));
                }
                Ok(step)
            }
        }
    }

    fn encode(&mut self, encoding: Encoding, pieces: &[IoSlice<'_>], out: &mut Vec<u8>) {
        match self {
            Codec::S2(_) => S2.with_borrow_mut(|s2| s2.burst(encoding.level, pieces, out)),
            Codec::WebSocket(encoder, _) => encoder.frame(pieces, encoding.largest, out),
        }
    }
}
