//! JWTs of operator mode: read, verified, judged. Opens no file, asks no clock, looks nothing up.
//!
//! | what | where |
//! |---|---|
//! | three parts and a signature become claims | [`decode`] |
//! | whose signatures count | [`Trust`] |
//! | whether an account may be used, or stored | [`TrustedAccount::admit`], [`check_update`] |
//! | who may delete accounts | [`check_deletion`] |
//! | whether a user may connect, and as what | [`Presented`], then [`Presented::judge`] |
//! | accounts as the rest of the server knows them | [`sharing::accounts`] |
//!
//! A login takes two steps, so that the account can be fetched in between:
//!
//! 1. [`Presented::read`] decodes the user's JWT and says which account to look up;
//! 2. [`Presented::judge`] takes what the look-up found and gives a [`Session`], or a [`Refusal`]
//!    whose `Display` is the log line. The peer is told `Authorization Violation`, whatever the
//!    reason.
//!
//! Unknown fields are tolerated everywhere, `null` is the same as nothing, names of fields are
//! matched as they are written. All times are Unix seconds.

mod claims;
#[cfg(test)]
pub(crate) mod mint;
pub mod sharing;
mod source;
mod template;
#[cfg(test)]
mod tests;
mod times;
mod token;
mod trust;
mod user;
mod validity;

pub use claims::{
    Account, AccountLimits, Activation, Callout, Claims, Export, Generic, Grant, Import, Kind,
    Latency, Operator, Response, Rules, Scope, ShareKind, SigningKey, Standard, TimeRange, Trace,
    User, Weighted,
};
pub use times::{Clock, Zone, Zones};
pub use token::{DecodeError, MAX_BYTES, decode};
pub use trust::{
    AccountRefusal, DeletionRefusal, Trust, TrustedAccount, UpdateRefusal, check_deletion,
    check_update,
};
pub use user::{Lookup, Peer, Presented, Proxied, Refusal, Session, Withdrawn};
pub use validity::{Issue, Issues};
