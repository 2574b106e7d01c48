//! What must hold for any input, one function per fuzz target. Each takes the bytes of one corpus
//! file and panics when something does not hold.
//!
//! The fuzz targets call these under libFuzzer, `tests/corpus.rs` of the root package calls them
//! for each committed file. How a file is laid out is said in each module.

mod config;
mod creds;
mod json;
mod jwt;
mod parse;
mod s2;
mod shard;
mod ws;

/// A check.
pub type Check = fn(&[u8]);

/// All checks by the name of their fuzz target, which is the name of their corpus as well.
pub const ALL: [(&str, Check); 11] = [
    ("parse_client", parse_client),
    ("parse_leaf", parse_leaf),
    ("config", config),
    ("info_connect", info_connect),
    ("creds", creds),
    ("jwt", jwt),
    ("shard", shard),
    ("s2", s2),
    ("ws_upgrade", ws_upgrade),
    ("ws_accept", ws_accept),
    ("ws_frames", ws_frames),
];

/// A client's stream, whole and in pieces.
pub fn parse_client(data: &[u8]) {
    parse::check(data, parse::CLIENT);
}

/// A leaf peer's stream, whole and in pieces.
pub fn parse_leaf(data: &[u8]) {
    parse::check(data, parse::LEAF);
}

/// A configuration with its includes and environment.
pub fn config(data: &[u8]) {
    config::check(data);
}

/// The JSON of `CONNECT` and `INFO`.
pub fn info_connect(data: &[u8]) {
    json::check(data);
}

/// A credentials file.
pub fn creds(data: &[u8]) {
    creds::check(data);
}

/// A JWT, and claims that are signed before they are judged.
pub fn jwt(data: &[u8]) {
    jwt::check(data);
}

/// A gateway in a world of clients, hubs, slow sockets and passing time.
pub fn shard(data: &[u8]) {
    shard::check(data);
}

/// A compressed stream, and data to be compressed.
pub fn s2(data: &[u8]) {
    s2::check(data);
}

/// The answer to a request for a WebSocket, whole and in pieces.
pub fn ws_upgrade(data: &[u8]) {
    ws::check_upgrade(data);
}

/// A request for a WebSocket, whole and in pieces.
pub fn ws_accept(data: &[u8]) {
    ws::check_accept(data);
}

/// Frames of a hub, whole and in pieces, and a burst that we put into frames.
pub fn ws_frames(data: &[u8]) {
    ws::check_frames(data);
}
