//! The configuration: nats-server's language, its options, and our typed model of them.

pub mod model;
