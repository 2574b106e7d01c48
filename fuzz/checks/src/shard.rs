//! A gateway in a world that a file describes, driven as the driver of a real one does it.
//!
//! The first line of a file has a digit for the configuration. Each further line is a step: a
//! letter, a digit for the link where one is meant (they are counted in the order of their opening),
//! and the rest. `~` in bytes is CR LF.
//!
//! | step | what happens |
//! |---|---|
//! | `o` | a client connects |
//! | `bN BYTES` | the peer sends bytes |
//! | `rN COUNT BYTES` | the peer sends them so often |
//! | `pN SUBJECT [REPLY] SIZE` | a client publishes, or a hub delivers, so many bytes |
//! | `hN SUBJECT [REPLY] SIZE` | the same with a header block |
//! | `lN BYTES` | reads of the link bring at most so many bytes; 0: as many as can be |
//! | `wN BYTES` | the peer takes so many bytes, then no more; no number: all there ever are |
//! | `cN` | the peer closes |
//! | `d`, `f` | a dial succeeds, fails |
//! | `S` | a nonce is signed |
//! | `v`, `V` | a password is checked, or the check fails in another way |
//! | `H` | a dial and the hub's side of a whole handshake |
//! | `tMS` | time passes |
//! | `D`, `Q` | lame duck mode, shutdown |

mod hub;
mod world;

use world::World;

/// Steps of one file that are looked at.
const MOST_STEPS: usize = 400;
/// Bytes of one step that repeats them.
const MOST_REPEATED: usize = 16 << 10;

pub(crate) fn check(data: &[u8]) {
    let mut lines = data.split(|b| *b == b'\n');
    let variant = lines.next().and_then(|line| line.first()).copied();
    let mut world = World::new(variant.unwrap_or_default());
    for line in lines.take(MOST_STEPS) {
        if let [step, rest @ ..] = line {
            take(&mut world, *step, rest);
            world.settle();
        }
    }
    world.quiesce();
    world.end();
}

fn take(world: &mut World, step: u8, rest: &[u8]) {
    let link = rest.first().copied().unwrap_or(b'0').wrapping_sub(b'0');
    let args = rest.get(1..).unwrap_or_default().trim_ascii_start();
    match step {
        b'o' => world.connect(),
        b'b' => world.send(link, &line_ends(args)),
        b'r' => {
            let (count, bytes) = split_word(args);
            let bytes = line_ends(bytes);
            let most = MOST_REPEATED / bytes.len().max(1);
            world.send(link, &bytes.repeat(number(count).min(most)));
        }
        b'p' => world.publish(link, args, b""),
        b'h' => world.publish(link, args, b"NATS/1.0\r\nK: v\r\n\r\n"),
        b'l' => world.limit_reads(link, number(args)),
        b'w' if args.is_empty() => world.limit_writes(link, None),
        b'w' => world.limit_writes(link, Some(number(args))),
        b'c' => world.peer_closes(link),
        b'd' => world.dialed(Ok(())),
        b'f' => world.dialed(Err("refused".into())),
        b'S' => world.sign(),
        b'v' => world.verify(true),
        b'V' => world.verify(false),
        b'H' => world.handshake(),
        b't' => world.pass(number(rest) as u64 % 200_000),
        b'D' => world.lame_duck(),
        b'Q' => world.shut_down(),
        _ => {}
    }
}

fn line_ends(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b'~' => bytes.extend_from_slice(b"\r\n"),
            byte => bytes.push(*byte),
        }
    }
    bytes
}

fn split_word(args: &[u8]) -> (&[u8], &[u8]) {
    let end = args.iter().position(|b| *b == b' ').unwrap_or(args.len());
    let (word, rest) = args.split_at(end);
    (word, rest.get(1..).unwrap_or_default())
}

/// The digits at the start.
fn number(text: &[u8]) -> usize {
    text.iter()
        .take_while(|b| b.is_ascii_digit())
        .fold(0usize, |n, digit| {
            (n * 10 + usize::from(digit - b'0')).min(1 << 30)
        })
}
