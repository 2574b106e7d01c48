//! Files and an environment in memory, and what loading a text gives, for the tests of this module.
#![allow(clippy::unwrap_used)]

use super::model::{Config, Remote};
use super::parse::Loader;
use super::{ConfigErrors, Loaded, load};

/// Pairs of names and texts.
#[derive(Default)]
pub(super) struct Files<'a> {
    pub(super) files: &'a [(&'a str, &'a str)],
    pub(super) env: &'a [(&'a str, &'a str)],
}

impl Loader for Files<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        let known = self.files.iter().find(|(name, _)| *name == path);
        known
            .map(|(_, text)| (*text).to_string())
            .ok_or_else(|| format!("open {path}: no such file or directory"))
    }

    fn env(&self, name: &str) -> Option<String> {
        let known = self.env.iter().find(|(known, _)| *known == name);
        known.map(|(_, text)| (*text).to_string())
    }
}

/// Loads a text as the file `c`.
pub(super) fn load_text(text: &str) -> Result<Loaded, ConfigErrors> {
    let files = Files {
        files: &[("c", text)],
        env: &[],
    };
    load("c", &files)
}

/// What a text in order, whatever its warnings, gives.
pub(crate) fn config(text: &str) -> Config {
    load_text(text)
        .map_err(|e| format!("{text}: {e}"))
        .unwrap()
        .config
}

/// The remote of these options.
pub(super) fn remote(text: &str) -> Remote {
    config(&format!("leafnodes {{ remotes: [ {{ {text} }} ] }}")).remotes[0].clone()
}

/// Every line of what is printed: of errors, or of warnings alone.
pub(super) fn lines(text: &str) -> Vec<String> {
    printed(load_text(text))
}

fn printed(outcome: Result<Loaded, ConfigErrors>) -> Vec<String> {
    match outcome {
        Ok(loaded) => loaded.warnings.iter().map(ToString::to_string).collect(),
        Err(e) => e.to_string().lines().map(Into::into).collect(),
    }
}
