//! What the documents tell people to copy is accepted as it stands there.
#![allow(clippy::unwrap_used, missing_docs)]

use petiole::config::Config;
use petiole_core::config::{Loader, check, load};

/// A file that is not one.
struct Text<'a>(&'a str);

impl Loader for Text<'_> {
    fn read(&self, _: &str) -> Result<String, String> {
        Ok(self.0.to_owned())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

fn accepted(text: &str) -> Config {
    let loaded = load("c", &Text(text)).map_err(|e| e.to_string()).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    check(&loaded.config).unwrap();
    loaded.config
}

#[test]
fn the_sample_configuration_is_valid() {
    let config = accepted(include_str!("../examples/leaf.conf"));
    assert_eq!(config.remotes.len(), 1);
}

#[test]
fn the_configuration_of_the_readme_is_valid() {
    let readme = include_str!("../README.md");
    let block = readme
        .split("```")
        .find(|block| block.trim_start().starts_with("listen:"))
        .unwrap();
    let config = accepted(block);
    assert_eq!(config.remotes.len(), 1);
}
