//! What `nsc` makes for a datacenter and a site, for who has no `nsc`: an operator with a signing key, its
//! system account, an account APP, and the files that a hub and a leaf start with.
//!
//! ```text
//! cargo run --example jwt -- DIR
//! ```
//!
//! README.md beside this file says what to do with them.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use sha2::{Digest, Sha512_256};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir] = arguments.as_slice() else {
        eprintln!("usage: jwt <folder to make>");
        return ExitCode::FAILURE;
    };
    match set_up(Path::new(dir)) {
        Ok(()) => {
            println!("{dir} is ready: petiole -c {dir}/hub.conf");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("{dir}: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the folder, which must not be there yet, and all that is in it.
pub(crate) fn set_up(dir: &Path) -> io::Result<()> {
    // The keys in it are secrets.
    folder(dir)?;
    folder(&dir.join("keys"))?;
    let path = std::path::absolute(dir)?;
    let path = path.to_string_lossy();

    // The operator's identity key signs its own JWT alone, and may then be locked away.
    let operator = KeyPair::new_operator();
    let operator_signing = KeyPair::new_operator();
    let system = KeyPair::new_account();
    let app = KeyPair::new_account();
    let app_signing = KeyPair::new_account();
    for (name, key) in [
        ("operator", &operator),
        ("operator-signing", &operator_signing),
        ("SYS", &system),
        ("APP", &app),
        ("APP-signing", &app_signing),
    ] {
        file(&dir.join("keys").join(format!("{name}.nk")), &seed(key)?)?;
    }

    let about_operator = json!({
        "type": "operator",
        "signing_keys": [operator_signing.public_key()],
        "system_account": system.public_key(),
    });
    let operator_jwt = sign(&operator, &operator, "OP", about_operator)?;

    // What is not said of an account's limits is 0: nothing is allowed.
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    });
    let about_system = json!({"type": "account", "limits": limits});
    let about_app = json!({
        "type": "account",
        "limits": limits,
        "signing_keys": [app_signing.public_key()],
    });
    let system_jwt = sign(&operator_signing, &system, "SYS", about_system)?;
    let app_jwt = sign(&operator_signing, &app, "APP", about_app)?;
    file(&dir.join("APP.jwt"), &app_jwt)?;

    for (name, account, issuer) in [
        ("sys", &system, &system),
        ("service", &app, &app_signing),
        ("site", &app, &app_signing),
    ] {
        let creds = credentials(name, account, issuer)?;
        file(&dir.join(format!("{name}.creds")), &creds)?;
    }

    let system = system.public_key();
    let hub = format!(
        r#"# The datacenter: clients at 4333, sites at 7422.
host: 127.0.0.1
port: 4333
server_name: hub
leafnodes {{
    host: 127.0.0.1
    port: 7422
}}

# Operator named OP
operator: {operator_jwt}
# System account named SYS
system_account: {system}

resolver {{
    type: full
    # Where the JWTs of accounts are kept
    dir: '{path}/jwt'
    # Deleted accounts are renamed
    allow_delete: true
    interval: "2m"
    timeout: "1.9s"
}}
resolver_preload: {{
    {system}: {system_jwt},
}}
"#
    );
    file(&dir.join("hub.conf"), &hub)?;
    let leaf = format!(
        r#"# A site: its clients need no credentials, it has some.
host: 127.0.0.1
port: 4222
server_name: site
leafnodes {{
    remotes: [
        {{
            url: "nats-leaf://127.0.0.1:7422"
            credentials: '{path}/site.creds'
        }}
    ]
}}
"#
    );
    file(&dir.join("leaf.conf"), &leaf)
}

/// A JWT: what `issuer` says of `subject`.
fn sign(issuer: &KeyPair, subject: &KeyPair, name: &str, mut nats: Value) -> io::Result<String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let issued = since.map_err(io::Error::other)?.as_secs();
    nats["version"] = json!(2);
    let mut claims = json!({
        "iat": issued,
        "iss": issuer.public_key(),
        "sub": subject.public_key(),
        "name": name,
        "nats": nats,
    });
    let digest = Sha512_256::digest(claims.to_string());
    claims["jti"] = json!(BASE32_NOPAD.encode(&digest));
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let part = |part: &Value| BASE64URL_NOPAD.encode(part.to_string().as_bytes());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = issuer.sign(signed.as_bytes()).map_err(io::Error::other)?;
    Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
}

/// The credentials file of a new user.
fn credentials(name: &str, account: &KeyPair, issuer: &KeyPair) -> io::Result<String> {
    let user = KeyPair::new_user();
    let about = json!({
        "type": "user",
        // A signing key signs for this account.
        "issuer_account": account.public_key(),
        "subs": -1, "data": -1, "payload": -1,
        "pub": {}, "sub": {},
    });
    let jwt = sign(issuer, &user, name, about)?;
    let seed = seed(&user)?;
    Ok(format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    ))
}

fn seed(key: &KeyPair) -> io::Result<String> {
    key.seed().map_err(io::Error::other)
}

fn folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn file(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}
