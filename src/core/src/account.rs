//! Accounts: who may say and hear what.

pub mod perms;
