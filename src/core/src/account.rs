//! Accounts: who may say and hear what, under which names, and what they share.

pub mod mapping;
pub mod perms;
pub mod transform;
