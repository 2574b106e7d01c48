//! What the documents tell people to copy is accepted as it stands there.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
#[path = "../examples/relay.rs"]
mod relay;

use std::time::{Duration, Instant};

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
fn the_sample_configurations_are_valid() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            let config = accepted(&std::fs::read_to_string(&path).unwrap());
            assert_eq!(config.remotes.len(), 1, "{}", path.display());
            seen.push((
                path.file_stem().unwrap().to_owned(),
                config.remotes[0].ways.len(),
            ));
        }
    }
    seen.sort();
    assert_eq!(seen, [("leaf".into(), 1), ("ways".into(), 4)]);
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

/// With two servers in one process, whose own logger stays as it is.
#[test]
fn a_request_crosses_the_link_of_the_relay() {
    struct Ours;
    impl log::Log for Ours {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            false
        }
        fn log(&self, _: &log::Record<'_>) {}
        fn flush(&self) {}
    }
    log::set_logger(&Ours).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    relay::relay(Instant::now() + Duration::from_secs(30)).unwrap();
    assert_eq!(log::max_level(), log::LevelFilter::Error);
}
