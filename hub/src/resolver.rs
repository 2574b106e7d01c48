//! Where the JWTs of accounts come from in operator mode.
//!
//! [`store`] is the directory of a full or a caching resolver.

pub mod store;
