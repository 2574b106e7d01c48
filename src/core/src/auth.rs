//! Who a peer is: users, keys, credentials, certificates, JWTs. Computes; opens no file and asks no
//! clock.

pub mod certificate;
pub mod creds;
pub mod jwt;
pub(crate) mod login;
pub mod nkey;
pub mod public_key;
pub mod users;
