//! The configuration: nats-server's language, its options, and our typed model of them.
//!
//! [`load`] is stages 1 to 3 of a start (what `-t` runs), [`check`] is the one after.

mod check;
mod diag;
mod digest;
mod lex;
pub mod model;
mod options;
mod origin;
pub mod parse;
#[cfg(test)]
pub(crate) mod testing;
mod units;
pub mod value;

pub use check::{CheckError, check, payload_warning};
pub use diag::{ConfigErrors, Diagnostic};
pub use options::{BadUrl, Loaded, load, parse_remote_url};
pub use origin::{Origin, OriginError, WebScheme};
pub use parse::Loader;
pub use units::quote;
