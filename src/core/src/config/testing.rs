//! Files and an environment in memory, for the tests of this module.

use super::parse::Loader;

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
