//! S2 blocks and checksums byte by byte, as the format tells them: slow, and easy to see through.

/// What a block stands for; `None` if it is malformed or stands for more than `most` bytes.
pub(crate) fn decode(block: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut input = block.iter().copied();
    let len = length(&mut input)?;
    if len > most as u64 {
        return None;
    }
    let mut out = Vec::new();
    let mut offset = 0;
    while let Some(tag) = input.next() {
        let upper = usize::from(tag >> 2);
        if tag & 3 == 0 {
            let len = match upper {
                60.. => number(&mut input, upper - 59)?,
                short => short,
            };
            // One less is written, since nobody needs an empty literal.
            for _ in 0..=len {
                out.push(input.next()?);
            }
        } else {
            let mut count = upper + 1;
            match tag & 3 {
                1 => {
                    count = (upper & 7) + 4;
                    let new = (usize::from(tag >> 5) << 8) | number(&mut input, 1)?;
                    if new > 0 {
                        offset = new;
                    } else {
                        count = match upper & 7 {
                            5 => 8 + number(&mut input, 1)?,
                            6 => 260 + number(&mut input, 2)?,
                            7 => 65_540 + number(&mut input, 3)?,
                            _ => count,
                        };
                    }
                }
                2 => offset = number(&mut input, 2)?,
                _ => offset = number(&mut input, 4)?,
            }
            let from = out.len().checked_sub(offset).filter(|_| offset > 0)?;
            if count as u64 > len.checked_sub(out.len() as u64)? {
                return None;
            }
            for at in from..from + count {
                out.push(out[at]);
            }
        }
    }
    (out.len() as u64 == len).then_some(out)
}

/// The masked CRC-32C.
pub(crate) fn checksum(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in data {
        crc = TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = at as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

/// Seven bits per byte, the lowest first; at most 64.
fn length(input: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = input.next()?;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// A number of so many bytes, the lowest first.
fn number(input: &mut impl Iterator<Item = u8>, bytes: usize) -> Option<usize> {
    let mut value = 0;
    for at in 0..bytes {
        value |= usize::from(input.next()?) << (8 * at);
    }
    Some(value)
}
