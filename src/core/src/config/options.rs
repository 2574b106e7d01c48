//! The value tree to [`Config`]: every option by name, every problem collected with its place.
//!
//! Owns which names exist and what they may hold. What only makes sense across options is `check`.

mod accounts;
mod auth;
mod leafnodes;
mod perms;
mod reader;
mod top;
mod unserved;
mod url;

use super::diag::{ConfigErrors, Diagnostic};
use super::digest::digest;
use super::model::Config;
use super::parse::{Loader, parse_file};

/// A configuration in order, and what to say about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration, not yet [checked](super::check).
    pub config: Config,
    /// To be printed; `-t` fails on them.
    pub warnings: Vec<Diagnostic>,
}

/// Reads and interprets `path`: stages 1 to 3, what `-t` runs.
pub fn load(path: &str, loader: &dyn Loader) -> Result<Loaded, ConfigErrors> {
    let map = parse_file(path, loader).map_err(|text| ConfigErrors {
        warnings: Vec::new(),
        errors: vec![Diagnostic {
            position: None,
            text,
        }],
    })?;
    let mut sink = reader::Sink::default();
    if map.is_empty() {
        sink.warnings.push(Diagnostic {
            position: None,
            text: format!("{path}: config has no values or is empty"),
        });
    }
    let mut config = top::read(&map, &mut sink);
    config.source = Some(path.to_string());
    config.digest = Some(digest(&map));
    let reader::Sink { errors, warnings } = sink;
    if errors.is_empty() {
        Ok(Loaded { config, warnings })
    } else {
        Err(ConfigErrors { warnings, errors })
    }
}
