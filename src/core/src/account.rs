//! Accounts: who may say and hear what, under which names, and what they share.

pub mod exports;
pub mod imports;
pub mod latency;
pub mod limits;
pub mod mapping;
pub mod perms;
mod sharing;
pub mod transform;

pub use sharing::{Item, Problem, SharingError, check};

use crate::config::model::{AccountLimits, Config, GLOBAL_ACCOUNT};
use exports::Exports;
use imports::Imports;
use mapping::{MappingError, Mappings};

/// What one account does with subjects and shares with others. Immutable.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The account's name.
    pub name: Box<str>,
    /// What it may use.
    pub limits: AccountLimits,
    /// What becomes of subjects that are published.
    pub mappings: Mappings,
    /// What others may import.
    pub exports: Exports,
    /// What it has from others.
    pub imports: Imports,
}

/// Why the accounts of a configuration cannot be used. A configuration that was loaded has none of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountError {
    /// A mapping.
    Mapping(MappingError),
    /// What accounts share.
    Sharing(Box<SharingError>),
}

impl std::fmt::Display for AccountError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AccountError::Mapping(e) => e.fmt(f),
            AccountError::Sharing(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for AccountError {}

/// `$G` and the named accounts, which share nothing and have no limits.
pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Rules> {
    let mut all: Vec<Rules> = Vec::new();
    for name in std::iter::once(GLOBAL_ACCOUNT).chain(names) {
        if all.iter().all(|other| *other.name != *name) {
            all.push(Rules {
                name: name.into(),
                ..Rules::default()
            });
        }
    }
    all
}

/// Compiles all accounts for a server in `cluster`. Accounts are numbered by their place in the result:
/// `$G` is 0, then come those of the configuration in its order.
pub fn compile(config: &Config, cluster: Option<&str>) -> Result<Vec<Rules>, AccountError> {
    let mappings = |list: &[_]| Mappings::compile(list, cluster).map_err(AccountError::Mapping);
    let mut out = vec![Rules {
        name: GLOBAL_ACCOUNT.into(),
        mappings: mappings(&config.mappings)?,
        ..Rules::default()
    }];
    let (shared, errors) = sharing::compile(&config.accounts, config.system_account.as_deref());
    if let Some(error) = errors.into_iter().next() {
        return Err(AccountError::Sharing(Box::new(error)));
    }
    for (account, (exports, imports)) in config.accounts.iter().zip(shared) {
        out.push(Rules {
            name: account.name.as_str().into(),
            limits: account.limits.clone(),
            mappings: mappings(&account.mappings)?,
            exports,
            imports,
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
