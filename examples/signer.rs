//! A gateway inside another program, with its keys in that program's memory: no credentials file
//! is written.
//!
//! ```text
//! cargo run --example signer -- hub.example.com <seed> <user JWT>
//! ```
//!
//! A real program would take the seed from where it keeps secrets. A seed that must not leave a
//! secure element works as well: what signs need not be an nkeys::KeyPair.

use std::process::ExitCode;

use nkeys::KeyPair;
use petiole::config::{Config, Remote, Scheme, Url};
use petiole::{Server, Signature, Signer};

/// One identity for all hubs. A signer of several looks at `remote` to tell them apart.
struct Keys {
    user: KeyPair,
    jwt: String,
}

impl Signer for Keys {
    /// Called with a fresh nonce each time a hub is joined, so that a renewed JWT is used at the
    /// next attempt. Runs on the server's thread: it must not wait for anything slow.
    fn sign(&self, _remote: &Remote, nonce: &[u8]) -> Result<Signature, String> {
        let signature = self.user.sign(nonce).map_err(|error| error.to_string())?;
        Ok(Signature {
            jwt: self.jwt.clone(),
            signature,
        })
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [hub, seed, jwt] = arguments.as_slice() else {
        eprintln!("usage: signer <host of the hub> <user seed> <user JWT>");
        return ExitCode::FAILURE;
    };
    match serve(hub, seed, jwt) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn serve(hub: &str, seed: &str, jwt: &str) -> Result<(), String> {
    // Neither `credentials` nor `nkey`: those would be asked first.
    let remote = Remote::at(Url::new(Scheme::Leaf, hub, 7422));
    let config = Config {
        host: "127.0.0.1".into(),
        remotes: vec![remote],
        ..Config::default()
    };
    let keys = Keys {
        user: KeyPair::from_seed(seed).map_err(|error| format!("the seed: {error}"))?,
        jwt: jwt.into(),
    };
    // Serves on this thread until SIGINT or SIGTERM.
    Server::new(config)
        .signer(keys)
        .run()
        .map_err(|error| error.to_string())
}
