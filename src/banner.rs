//! What the log says at a start.

use std::net::SocketAddr;

use petiole_core::auth::users::Users;
use petiole_core::config::model::Config;
use petiole_core::config::payload_warning;

/// The first lines: who this is and what it was told.
pub fn banner(config: &Config, server_id: &str, name: &str) {
    log::info!("Starting petiole");
    log::info!("  Version:  {}", env!("CARGO_PKG_VERSION"));
    log::info!("  Name:     {name}");
    log::info!("  ID:       {server_id}");
    if Users::compile(config).has_plaintext_passwords() {
        log::warn!("Plaintext passwords detected, use nkeys or bcrypt");
    }
    if let Some(text) = payload_warning(config) {
        log::warn!("{text}");
    }
    if let Some(file) = &config.source {
        match &config.digest {
            Some(digest) => log::info!("Using configuration file: {file} (sha256:{digest})"),
            None => log::info!("Using configuration file: {file}"),
        }
    }
}

/// For somebody who started it just so, once clients can connect at `address`: what to try next.
pub fn first_steps(config: &Config, address: SocketAddr) {
    for line in first_steps_lines(config, address) {
        log::info!("{line}");
    }
}

fn first_steps_lines(config: &Config, address: SocketAddr) -> Vec<String> {
    if config.source.is_some() || !config.remotes.is_empty() {
        return Vec::new();
    }
    let mut at = address;
    if at.ip().is_unspecified() {
        at.set_ip([127, 0, 0, 1].into());
    }
    vec![
        format!("Publish and subscribe with any NATS client at nats://{at}"),
        "Join a hub with `--remote nats-leaf://hub:7422`".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use petiole_core::config::model::Remote;

    #[test]
    fn first_steps_are_for_a_bare_start() {
        let mut config = Config::default();
        let any = SocketAddr::from(([0, 0, 0, 0], 4222));
        assert_eq!(
            first_steps_lines(&config, any),
            [
                "Publish and subscribe with any NATS client at nats://127.0.0.1:4222",
                "Join a hub with `--remote nats-leaf://hub:7422`"
            ]
        );
        config.remotes.push(Remote::default());
        assert!(first_steps_lines(&config, any).is_empty());
    }
}
