//! Frames to bytes of a link.

use std::cell::Cell;
use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use super::{Accepted, FIN, MASK, MAX_CONTROL, RSV1, RSV23, TAIL, WsError, apply_mask, opcode};

/// Nothing more is taken in once so many bytes wait to be read.
const MAX_WAITING: usize = 64 << 10;

/// How much room there is at least for what comes out of a compressed message.
const STEP: usize = 16 << 10;

/// How much of a compressed message is unmasked at once.
const PIECE: usize = 1 << 10;

thread_local! {
    /// Some 40 KiB, for the next compressed message of any link of a thread.
    static INFLATER: Cell<Option<Decompress>> = const { Cell::new(None) };
}

/// Takes the bytes of a link out of the peer's frames, as they come: neither a frame nor a message
/// is gathered.
pub struct Decoder {
    deflate: bool,
    /// Whether the peer's frames have masks.
    masked: bool,
    max_message: u64,
    state: State,
    /// The message that has begun and not ended.
    message: Option<Message>,
    /// Only there within a compressed message.
    inflater: Option<Decompress>,
    waiting: Waiting,
    reply: Option<Reply>,
    closed: Option<Closed>,
}

/// The answer to a frame of the peer's, to be sent with
/// [`Encoder::reply`](super::Encoder::reply).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub(super) opcode: u8,
    pub(super) payload: Vec<u8>,
}

/// How the peer closed the WebSocket. `Display` says it in words, fit for a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The code, if there was one.
    pub code: Option<u16>,
    /// The reason, often empty.
    pub reason: String,
}

enum State {
    /// Within the head of a frame.
    Head { bytes: [u8; 14], have: usize },
    /// Within a data frame. The mask is that of its next byte on.
    Data {
        left: u64,
        last: bool,
        mask: [u8; 4],
    },
    /// Within a control frame.
    Control {
        opcode: u8,
        len: usize,
        mask: [u8; 4],
        payload: Vec<u8>,
    },
}

const HEAD: State = State::Head {
    bytes: [0; 14],
    have: 0,
};

/// The mask that changes nothing.
const NO_MASK: [u8; 4] = [0; 4];

struct Message {
    deflated: bool,
    /// Bytes of the link that it has carried so far.
    size: u64,
}

impl Decoder {
    /// What the hub sends, on a connection just upgraded. A message may carry `max_message` bytes of
    /// the link: it costs no memory, but a compressed one costs far more time than bytes on the wire.
    pub fn new(accepted: Accepted, max_message: u64) -> Self {
        Decoder {
            deflate: accepted.deflate,
            masked: false,
            max_message,
            state: HEAD,
            message: None,
            inflater: None,
            waiting: Waiting::default(),
            reply: None,
            closed: None,
        }
    }

    /// What those send whose connection we have upgraded. Frames have masks, unless it was agreed
    /// that they have none.
    pub fn accepting(accepted: Accepted, max_message: u64) -> Self {
        Decoder {
            masked: accepted.masking,
            ..Decoder::new(accepted, max_message)
        }
    }

    /// Takes what was received and says how much of it. What is left has to be offered again once
    /// something was read; then enough waits for that. After an error the connection is to be
    /// closed; what waits may still be read.
    ///
    /// Look for a reply and for the end afterwards.
    pub fn feed(&mut self, input: &[u8]) -> Result<usize, WsError> {
        let mut rest = input;
        while !rest.is_empty() && self.waiting.len() < MAX_WAITING {
            if self.closed.is_some() {
                // Nothing counts after a close frame.
                return Ok(input.len());
            }
            let used = match self.state {
                State::Head { .. } => self.head(rest)?,
                State::Data { .. } => self.data(rest)?,
                State::Control { .. } => self.control(rest)?,
            };
            rest = &rest[used..];
        }
        Ok(input.len() - rest.len())
    }

    /// Moves bytes of the link, and says how many; 0 is none until more was fed.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        self.waiting.read(into)
    }

    /// How many bytes wait to be read: at most 128 KiB.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// An answer that is due. Only the latest ping is answered.
    pub fn take_reply(&mut self) -> Option<Reply> {
        self.reply.take()
    }

    /// How the peer closed, once it did: what waits may still be read, the reply sent, and then the
    /// connection is over.
    pub fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    fn head(&mut self, input: &[u8]) -> Result<usize, WsError> {
        let State::Head { bytes, have } = &mut self.state else {
            return Ok(0);
        };
        let mut used = 0;
        for byte in input {
            bytes[*have] = *byte;
            *have += 1;
            used += 1;
            let [first, second, tail @ ..] = *bytes;
            if *have == 2 {
                check_head(first, second, self.deflate, self.masked)?;
            }
            let extended = match second & !MASK {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            let (long, mask) = tail.split_at(extended);
            let masks = if self.masked { mask.len().min(4) } else { 0 };
            if *have < 2 + extended + masks {
                continue;
            }
            let len = match extended {
                0 => u64::from(second & !MASK),
                _ => long.iter().fold(0, |len, byte| len << 8 | u64::from(*byte)),
            };
            if len >> 63 != 0 {
                return Err(WsError::Length);
            }
            let mask = mask.first_chunk().filter(|_| self.masked);
            let mask = mask.copied().unwrap_or(NO_MASK);
            self.begin(first, len, mask)?;
            break;
        }
        Ok(used)
    }

    fn begin(&mut self, first: u8, len: u64, mask: [u8; 4]) -> Result<(), WsError> {
        let opcode = first & 0x0f;
        if opcode >= opcode::CLOSE {
            self.state = State::Control {
                opcode,
                // No more than a byte can say.
                len: usize::try_from(len).unwrap_or(MAX_CONTROL),
                mask,
                payload: Vec::new(),
            };
            if len == 0 {
                self.control_end()?;
            }
            return Ok(());
        }
        let message = match (&mut self.message, opcode) {
            (Some(message), opcode::CONTINUATION) => message,
            (begun @ None, opcode::TEXT | opcode::BINARY) => begun.insert(Message {
                deflated: first & RSV1 != 0,
                size: 0,
            }),
            _ => return Err(WsError::Fragment),
        };
        if !message.deflated {
            message.add(len, self.max_message)?;
        }
        let last = first & FIN != 0;
        self.state = State::Data {
            left: len,
            last,
            mask,
        };
        if len == 0 {
            self.data_end(last)?;
        }
        Ok(())
    }

    fn data(&mut self, input: &[u8]) -> Result<usize, WsError> {
        let State::Data {
            left,
            last,
            mut mask,
        } = self.state
        else {
            return Ok(0);
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let input = &input[..input.len().min(most)];
        let used = if self.message.as_ref().is_some_and(|open| open.deflated) {
            self.unmask_and_inflate(input, mask)?
        } else {
            self.waiting.push(input, mask, MAX_WAITING)
        };
        mask.rotate_left(used % 4);
        let left = left - used as u64;
        self.state = State::Data { left, last, mask };
        if left == 0 {
            self.data_end(last)?;
        }
        Ok(used)
    }

    fn unmask_and_inflate(&mut self, input: &[u8], mut mask: [u8; 4]) -> Result<usize, WsError> {
        if mask == NO_MASK {
            return self.inflate(input, MAX_WAITING);
        }
        let mut used = 0;
        let mut scratch = [0; PIECE];
        for piece in input.chunks(PIECE) {
            let clear = &mut scratch[..piece.len()];
            clear.copy_from_slice(piece);
            apply_mask(mask, clear);
            let took = self.inflate(clear, MAX_WAITING)?;
            used += took;
            mask.rotate_left(took % 4);
            if took < piece.len() {
                break;
            }
        }
        Ok(used)
    }

    fn data_end(&mut self, last: bool) -> Result<(), WsError> {
        self.state = HEAD;
        if last {
            if self.message.as_ref().is_some_and(|open| open.deflated) {
                self.inflate(&TAIL, usize::MAX)?;
                INFLATER.set(self.inflater.take());
            }
            self.message = None;
        }
        Ok(())
    }

    /// Inflates until so much waits, and says how much of the input that took. What the inflater
    /// has taken in comes out at once: nothing is ever left that only further input would bring.
    fn inflate(&mut self, mut input: &[u8], until: usize) -> Result<usize, WsError> {
        let Some(message) = &mut self.message else {
            return Ok(0);
        };
        let inflater = self.inflater.get_or_insert_with(|| match INFLATER.take() {
            Some(mut spare) => {
                spare.reset(false);
                spare
            }
            None => Decompress::new(false),
        });
        let mut used = 0;
        loop {
            if self.waiting.len() >= until {
                input = &input[..used];
            }
            let before = (inflater.total_in(), inflater.total_out());
            let out = self.waiting.room(STEP);
            let status = inflater
                .decompress_vec(&input[used..], out, FlushDecompress::None)
                .map_err(|_| WsError::Inflate)?;
            let took = inflater.total_in() - before.0;
            let gave = inflater.total_out() - before.1;
            used += took as usize;
            message.add(gave, self.max_message)?;
            if status == Status::StreamEnd {
                // A sender may end a stream within a message; the next one begins right there.
                inflater.reset(false);
            } else if took == 0 && gave == 0 {
                return if used == input.len() {
                    Ok(used)
                } else {
                    Err(WsError::Inflate)
                };
            }
        }
    }

    fn control(&mut self, input: &[u8]) -> Result<usize, WsError> {
        let State::Control { len, payload, .. } = &mut self.state else {
            return Ok(0);
        };
        let used = input.len().min(*len - payload.len());
        payload.extend_from_slice(&input[..used]);
        if payload.len() == *len {
            self.control_end()?;
        }
        Ok(used)
    }

    fn control_end(&mut self) -> Result<(), WsError> {
        // A control frame may stand between the fragments of a message, never within a frame.
        let State::Control {
            opcode,
            mask,
            mut payload,
            ..
        } = std::mem::replace(&mut self.state, HEAD)
        else {
            return Ok(());
        };
        apply_mask(mask, &mut payload);
        match opcode {
            opcode::PING => {
                self.reply = Some(Reply {
                    opcode: opcode::PONG,
                    payload,
                });
            }
            opcode::CLOSE => {
                let closed = Closed::parse(&payload)?;
                self.reply = Some(Reply {
                    opcode: opcode::CLOSE,
                    payload: closed
                        .code
                        .map_or(Vec::new(), |code| code.to_be_bytes().into()),
                });
                self.closed = Some(closed);
            }
            _ => {}
        }
        Ok(())
    }
}

fn check_head(first: u8, second: u8, deflate: bool, masked: bool) -> Result<(), WsError> {
    match (second & MASK != 0, masked) {
        (true, false) => return Err(WsError::Masked),
        (false, true) => return Err(WsError::Unmasked),
        _ => {}
    }
    if first & RSV23 != 0 {
        return Err(WsError::ReservedBits);
    }
    let compressed = first & RSV1 != 0;
    match first & 0x0f {
        opcode::CONTINUATION if compressed => Err(WsError::ReservedBits),
        opcode::TEXT | opcode::BINARY if compressed && !deflate => Err(WsError::ReservedBits),
        opcode::CONTINUATION | opcode::TEXT | opcode::BINARY => Ok(()),
        opcode::CLOSE | opcode::PING | opcode::PONG => {
            if compressed || first & FIN == 0 || usize::from(second & !MASK) > MAX_CONTROL {
                Err(WsError::Control)
            } else {
                Ok(())
            }
        }
        unknown => Err(WsError::Opcode(unknown)),
    }
}

impl Message {
    fn add(&mut self, count: u64, limit: u64) -> Result<(), WsError> {
        self.size = self.size.saturating_add(count);
        if self.size > limit {
            return Err(WsError::TooBig(limit));
        }
        Ok(())
    }
}

impl Closed {
    fn parse(payload: &[u8]) -> Result<Closed, WsError> {
        match payload {
            [] => Ok(Closed {
                code: None,
                reason: String::new(),
            }),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                // The others never stand in a frame: 1005 and 1006 say that there was none.
                if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    return Err(WsError::Control);
                }
                Ok(Closed {
                    code: Some(code),
                    reason: String::from_utf8_lossy(reason).into_owned(),
                })
            }
            _ => Err(WsError::Control),
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer closed the WebSocket")?;
        let Some(code) = self.code else {
            return Ok(());
        };
        let words = match code {
            1000 => " (done)",
            1001 => " (it shuts down)",
            1002 => " (protocol violation)",
            1007 => " (damaged data)",
            1008 => " (not authorized)",
            1009 => " (message too big)",
            1011 => " (internal error)",
            1012 => " (it restarts)",
            1013 => " (try again later)",
            _ => "",
        };
        write!(f, ": {code}{words}")?;
        if !self.reason.is_empty() {
            write!(f, ": {:?}", self.reason)?;
        }
        Ok(())
    }
}

/// Bytes that wait to be read. Owns no memory when there are none.
#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    read: usize,
}

impl Waiting {
    fn len(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// Appends what is under a mask as long as no more than `until` wait, and says how much.
    fn push(&mut self, input: &[u8], mask: [u8; 4], until: usize) -> usize {
        let count = input.len().min(until.saturating_sub(self.len()));
        let bytes = self.room(count);
        let start = bytes.len();
        bytes.extend_from_slice(&input[..count]);
        apply_mask(mask, &mut bytes[start..]);
        count
    }

    /// Where to append, with room for so much.
    fn room(&mut self, count: usize) -> &mut Vec<u8> {
        if self.bytes.capacity() - self.bytes.len() < count {
            self.bytes.drain(..self.read);
            self.read = 0;
            self.bytes.reserve(count);
        }
        &mut self.bytes
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.len());
        into[..count].copy_from_slice(&self.bytes[self.read..self.read + count]);
        self.read += count;
        if self.read == self.bytes.len() {
            *self = Waiting::default();
        }
        count
    }
}
