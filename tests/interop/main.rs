//! petiole as a leaf of real hubs of all three versions, and of hubs that misbehave: the
//! leafnode protocol's checklist from the side of the solicitor, item by item. And leafs of all
//! versions at the core's acceptor, clients and leafs over WebSocket at petiole.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod acceptor;
mod clients;
mod common;
mod credentials;
mod fake;
mod hubs;
mod jwt;
mod latency;
mod matrix;
mod operator;
mod outages;
mod pairs;
mod remotes;
mod secrets;
mod system;
mod transports;
mod websocket;
