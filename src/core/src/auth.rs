//! Who a peer is: users, keys, credentials. Computes; opens no file and asks no clock.

pub mod creds;
pub mod nkey;
pub mod users;
