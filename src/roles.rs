//! Which roles were built, and what of a configuration needs another one.

use std::fmt;

use petiole_core::config::model::{Config, Export, SYSTEM_ACCOUNT};
use petiole_leaf::{FileError, Leaf, RunError};

/// A configuration asks for what this build does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleError {
    at: String,
    option: &'static str,
}

impl fmt::Display for RoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RoleError { at, option } = self;
        if !at.is_empty() {
            write!(f, "{at}: ")?;
        }
        write!(
            f,
            "option {option:?} is for a hub, and this build is a gateway's alone: take it out, or \
             build with `--features hub`"
        )
    }
}

impl std::error::Error for RoleError {}

/// Whether this build can serve a configuration.
pub fn check_roles(config: &Config) -> Result<(), RoleError> {
    if cfg!(feature = "hub") {
        return Ok(());
    }
    let refused = |at: &str, option| {
        Err(RoleError {
            at: at.to_owned(),
            option,
        })
    };
    if let Some(listener) = &config.leafnodes {
        return refused(&listener.at, "leafnodes.port");
    }
    if let Some(listener) = &config.websocket {
        let at = listener.place.as_deref().unwrap_or_default();
        return refused(at, "websocket.port");
    }
    let exports = config.accounts.iter().flat_map(|account| &account.exports);
    for export in exports {
        if let Export::Service(service) = export
            && let Some(latency) = &service.latency
        {
            return refused(&latency.at, "latency");
        }
    }
    if config.operator.is_on() {
        let at = config.operator.operators.first();
        return refused(at.map_or("", |operator| &operator.at), "operator");
    }
    if config.threads.is_some_and(|threads| threads.get() > 1) {
        return refused("", "threads");
    }
    // The default is there without being served.
    let system = config.system_account.as_deref();
    if system.is_some_and(|account| account != SYSTEM_ACCOUNT) {
        return refused("", "system_account");
    }
    Ok(())
}

#[cfg(feature = "hub")]
mod largest {
    use super::*;

    pub(super) fn check_files(config: &Config) -> Result<(), FileError> {
        petiole_hub::check_files(config)
    }

    pub(super) fn serve(leaf: Leaf) -> Result<(), RunError> {
        petiole_hub::Hub::new(leaf)?.run()
    }
}

#[cfg(not(feature = "hub"))]
mod largest {
    use super::*;

    pub(super) fn check_files(config: &Config) -> Result<(), FileError> {
        petiole_leaf::check_files(config)
    }

    pub(super) fn serve(leaf: Leaf) -> Result<(), RunError> {
        leaf.run()
    }
}

/// Reads all files that a configuration names for TLS, as a start would, and keeps nothing.
pub fn check_files(config: &Config) -> Result<(), FileError> {
    largest::check_files(config)
}

/// Serves in the largest role that was built.
pub(crate) fn serve(leaf: Leaf) -> Result<(), RunError> {
    largest::serve(leaf)
}
