//! Bytes of a link to frames.

use std::cell::RefCell;
use std::io::IoSlice;
use std::ops::Range;

use flate2::{Compress, Compression, FlushCompress, Status};

use super::{
    Accepted, FIN, MASK, MAX_COMPRESSED, MAX_CONTROL, MIN_COMPRESSED, RSV1, Reply, TAIL,
    apply_mask, opcode,
};

thread_local! {
    /// Some 300 KiB, and every message is compressed for itself: one for all links of a thread, only
    /// there once something was worth compressing.
    static DEFLATER: RefCell<Option<Box<Compress>>> = const { RefCell::new(None) };
}

/// Puts what a link writes into binary frames. Nothing is appended any more after a close frame,
/// be it the first or the answer to one.
pub struct Encoder {
    /// Where masks come from, if there are to be any.
    masks: Option<fastrand::Rng>,
    deflate: bool,
    closed: bool,
}

impl Encoder {
    /// To the hub, on a connection just upgraded. `seed` is from the system's random source: nobody who
    /// chooses what is sent may know beforehand what it looks like on the wire.
    pub fn new(accepted: Accepted, seed: u64) -> Self {
        Encoder {
            masks: accepted.masking.then(|| fastrand::Rng::with_seed(seed)),
            deflate: accepted.deflate,
            closed: false,
        }
    }

    /// To those whose connection we have upgraded: never masked.
    pub fn accepting(accepted: Accepted) -> Self {
        let unmasked = Accepted {
            masking: false,
            ..accepted
        };
        Encoder::new(unmasked, 0)
    }

    /// Appends the pieces of a burst to `out`, in as few messages as possible.
    ///
    /// A compressed message carries at most `max_payload` bytes (the hub's) of the link, and at
    /// most [`MAX_COMPRESSED`]; uncompressed it is one frame, whatever its size.
    pub fn frame(&mut self, pieces: &[IoSlice<'_>], max_payload: usize, out: &mut Vec<u8>) {
        if self.closed {
            return;
        }
        let total = pieces.iter().map(|piece| piece.len()).sum();
        let limit = max_payload.min(MAX_COMPRESSED);
        if !self.deflate || total <= MIN_COMPRESSED || limit <= MIN_COMPRESSED {
            return self.plain(pieces, 0..total, out);
        }
        let mut start = 0;
        while start < total {
            let range = start..total.min(start + limit);
            start = range.end;
            if range.len() <= MIN_COMPRESSED || !self.compressed(pieces, range.clone(), out) {
                self.plain(pieces, range, out);
            }
        }
    }

    /// Appends the answer to a ping or to a close frame.
    pub fn reply(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        self.control(reply.opcode, &reply.payload, out);
    }

    /// Appends a close frame: nothing more will be sent. A longer reason than there is room for is cut.
    pub fn close(&mut self, code: u16, reason: &str, out: &mut Vec<u8>) {
        let mut payload = code.to_be_bytes().to_vec();
        let room = reason.floor_char_boundary(MAX_CONTROL - payload.len());
        payload.extend_from_slice(&reason.as_bytes()[..room]);
        self.control(opcode::CLOSE, &payload, out);
    }

    pub(super) fn control(&mut self, opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
        if self.closed {
            return;
        }
        self.closed = opcode == opcode::CLOSE;
        let head = Head::new(FIN | opcode, payload.len(), self.next_mask());
        out.extend_from_slice(head.bytes());
        let start = out.len();
        out.extend_from_slice(payload);
        head.mask(&mut out[start..]);
    }

    fn plain(&mut self, pieces: &[IoSlice<'_>], range: Range<usize>, out: &mut Vec<u8>) {
        if range.is_empty() {
            return;
        }
        let head = Head::new(FIN | opcode::BINARY, range.len(), self.next_mask());
        out.reserve(head.bytes().len() + range.len());
        out.extend_from_slice(head.bytes());
        let start = out.len();
        for part in parts(pieces, range) {
            out.extend_from_slice(part);
        }
        head.mask(&mut out[start..]);
    }

    /// False, and nothing appended, if the message would not become smaller.
    fn compressed(
        &mut self,
        pieces: &[IoSlice<'_>],
        range: Range<usize>,
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        let most = start + range.len();
        out.reserve(range.len() + TAIL.len() + 1);
        let done = DEFLATER.with_borrow_mut(|deflater| {
            let new = || Box::new(Compress::new(Compression::fast(), false));
            let deflater = deflater.get_or_insert_with(new);
            let done = deflate(deflater, parts(pieces, range), out);
            deflater.reset();
            done
        });
        if !done || out.len() >= most {
            out.truncate(start);
            return false;
        }
        let head = Head::new(
            FIN | RSV1 | opcode::BINARY,
            out.len() - start,
            self.next_mask(),
        );
        head.mask(&mut out[start..]);
        out.splice(start..start, head.bytes().iter().copied());
        true
    }

    fn next_mask(&mut self) -> Option<[u8; 4]> {
        let masks = self.masks.as_mut()?;
        Some(masks.u32(..).to_ne_bytes())
    }
}

/// Appends one message without its tail, if it fits into what `out` has room for.
fn deflate<'a>(
    deflater: &mut Compress,
    parts: impl Iterator<Item = &'a [u8]>,
    out: &mut Vec<u8>,
) -> bool {
    let mut taken = 0;
    for part in parts {
        taken += part.len() as u64;
        let done = deflater.compress_vec(part, out, FlushCompress::None);
        if !matches!(done, Ok(Status::Ok)) || deflater.total_in() != taken {
            return false;
        }
    }
    let done = deflater.compress_vec(&[], out, FlushCompress::Sync);
    // Without room to spare there may be more to come.
    if done.is_err() || out.len() == out.capacity() || !out.ends_with(&TAIL) {
        return false;
    }
    out.truncate(out.len() - TAIL.len());
    true
}

/// The parts of the pieces that make up this range of all their bytes; none is empty.
fn parts<'a>(pieces: &'a [IoSlice<'_>], range: Range<usize>) -> impl Iterator<Item = &'a [u8]> {
    let mut at = 0;
    pieces.iter().filter_map(move |piece| {
        let start = at;
        at += piece.len();
        let from = range.start.clamp(start, at);
        let to = range.end.clamp(start, at);
        (from < to).then(|| &piece[from - start..to - start])
    })
}

/// The head of a frame.
struct Head {
    bytes: [u8; 14],
    len: usize,
    mask: Option<[u8; 4]>,
}

impl Head {
    fn new(first: u8, len: usize, mask: Option<[u8; 4]>) -> Self {
        let mut head = Head {
            bytes: [0; 14],
            len: 0,
            mask,
        };
        let masked = if mask.is_some() { MASK } else { 0 };
        head.push(&[first]);
        match (u8::try_from(len), u16::try_from(len)) {
            (Ok(len @ ..=125), _) => head.push(&[masked | len]),
            (_, Ok(len)) => {
                head.push(&[masked | 126]);
                head.push(&len.to_be_bytes());
            }
            _ => {
                head.push(&[masked | 127]);
                head.push(&(len as u64).to_be_bytes());
            }
        }
        if let Some(mask) = mask {
            head.push(&mask);
        }
        head
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Masks the frame's payload.
    fn mask(&self, payload: &mut [u8]) {
        if let Some(mask) = self.mask {
            apply_mask(mask, payload);
        }
    }
}
