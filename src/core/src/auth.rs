//! Who a peer is: users, keys, credentials, certificates. Computes; opens no file and asks no
//! clock.

pub mod certificate;
pub mod creds;
pub(crate) mod login;
pub mod nkey;
pub mod users;
