//! The NATS protocol without sockets, clocks, threads or files.
//!
//! Bytes, instants and results go in; bytes to write, deadlines and events come out. The same code
//! runs on a gateway, under a fuzzer and in a simulated world.

pub mod account;
pub mod auth;
pub mod backoff;
pub mod config;
mod interest;
pub mod link;
pub mod message;
pub mod random;
pub mod shard;
mod slab;
pub mod subject;
pub mod time;
mod trie;
pub mod wall;
pub mod wire;
