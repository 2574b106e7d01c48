//! One peer: its output queue, its keep-alive, and what it is (a client, a leaf link).

pub mod queue;
