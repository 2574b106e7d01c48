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

use crate::config::model::{Account, AccountLimits, Config, GLOBAL_ACCOUNT};
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
    let places = sharing::numbers(config.accounts.len());
    let system = config.system_account.as_deref();
    let (shared, errors) = sharing::compile(&config.accounts, &places, system);
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

/// Compiles accounts that came while the server runs. `places` are their numbers; all that they import
/// from is among them. What is wrong in one is left out, and told.
pub fn compile_at(
    accounts: &[Account],
    places: &[u32],
    system_account: Option<&str>,
    cluster: Option<&str>,
) -> (Vec<Rules>, Vec<AccountError>) {
    let (shared, problems) = sharing::compile(accounts, places, system_account);
    let mut errors: Vec<AccountError> = problems
        .into_iter()
        .map(|problem| AccountError::Sharing(Box::new(problem)))
        .collect();
    let all = accounts.iter().zip(shared);
    let rules = all.map(|(account, (exports, imports))| Rules {
        name: account.name.as_str().into(),
        limits: account.limits.clone(),
        mappings: Mappings::compile(&account.mappings, cluster).unwrap_or_else(|error| {
            errors.push(AccountError::Mapping(error));
            Mappings::default()
        }),
        exports,
        imports,
    });
    (rules.collect(), errors)
}

#[cfg(test)]
mod tests;
