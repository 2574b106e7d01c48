//! What the integration tests share: real servers to compare with, processes, a tiny client and
//! fake leafnode peers. Nothing here sleeps to synchronise: every wait is for a condition, with a
//! deadline.
// Each test crate uses its own part of this module.
#![allow(dead_code, unreachable_pub, unused_imports, missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bystanders;
mod client;
mod leaf;
mod operator;
mod pki;
mod process;
mod proxy;
mod real;
mod relay;
mod temp;
mod tls;
mod wire;
mod ws;

pub use bystanders::Bystanders;
pub use client::{Client, Msg, Op, QUIET};
pub use leaf::{FakeHub, LeafLink, LeafOp};
pub use operator::{Credentials, Draft, Operator, account_key, nkey, now};
pub use pki::{Pair, Pki};
pub use process::{Ready, Server, Target, signal, subject};
pub use proxy::Proxy;
pub use real::{RealServer, newest, server, servers};
pub use relay::Relay;
pub use temp::TempDir;
pub use tls::Trust;
pub use wire::Wire;
pub use ws::{End, Frame, Refused, Visit, WsClient, masked};

use std::time::{Duration, Instant};

/// How long a test waits for something that must happen.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How long a process may take to start serving (emulators are slow).
pub const START_DEADLINE: Duration = Duration::from_secs(20);
/// The pause between two looks at a condition that nothing announces.
pub const POLL: Duration = Duration::from_millis(5);
/// How many times a server is started on other ports when one was taken in between.
pub const START_ATTEMPTS: usize = 5;

/// A user key pair that depends on nothing but `name`: tests need keys, not secrets.
pub fn user_key(name: &str) -> nkeys::KeyPair {
    let mut seed = [7u8; 32];
    for (i, b) in name.bytes().enumerate() {
        let at = i % seed.len();
        seed[at] = seed[at].wrapping_mul(31).wrapping_add(b);
    }
    nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, seed).expect("a seed of 32 bytes")
}

/// The signature of a nonce as clients send it: base64url without padding.
pub fn sign_nonce(key: &nkeys::KeyPair, nonce: &str) -> String {
    base64url(&key.sign(nonce.as_bytes()).expect("the key has its seed"))
}

/// Base64url without padding.
pub fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |w, b| (w << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(word >> (18 - 6 * i)) as usize & 63]));
        }
    }
    out
}

/// Repeats a question until it is answered with yes.
#[track_caller]
pub fn until(what: &str, mut yes: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !yes() {
        assert!(Instant::now() < end, "not within the deadline: {what}");
        std::thread::yield_now();
    }
}

/// Says on stderr, past the capturing of the test runner, that something was not tested.
pub fn skip_loudly(what: &str) {
    use std::io::Write;
    let line = format!("\n*** SKIPPED: {what} ***\n");
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// Bytes as readable text: what is not printable ASCII is escaped.
pub fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
