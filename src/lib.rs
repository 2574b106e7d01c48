//! A leaf node for NATS that fits a gateway: the embedding face.

pub mod logger;
