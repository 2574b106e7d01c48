//! The JSON of `CONNECT` and `INFO`. A file is the JSON text; it is read as both.

use petiole_core::config::model::Secret;
use petiole_core::wire::Op;
use petiole_core::wire::error::ProtoError;
use petiole_core::wire::info::{
    ClientConnect, HubInfo, LeafConnect, LeafHello, LeafInfo, ServerInfo,
};
use petiole_core::wire::parse::{self, ParseLimits, Parsed};

const LIMITS: ParseLimits = ParseLimits {
    control_line: usize::MAX,
    payload: usize::MAX,
    headers: true,
};

pub(crate) fn check(data: &[u8]) {
    if let Ok(connect) = ClientConnect::parse(data) {
        hides_secrets(&connect);
        write_connect(&connect);
    }
    if let Ok(hello) = LeafHello::parse(data) {
        write_hello(&hello);
    }
    if let Ok(info) = LeafInfo::parse(data) {
        write_info(&info);
        write_hub_info(&info);
    }
}

/// What a hub reads of a CONNECT that a leaf writes is what the leaf put in.
fn write_hello(hello: &LeafHello) {
    let mut line = Vec::new();
    LeafConnect {
        version: &hello.version,
        nkey: hello.nkey.clone(),
        jwt: hello.jwt.clone(),
        sig: hello.sig.clone(),
        user: hello.user.clone().map(Secret::new),
        pass: hello.pass.clone(),
        auth_token: hello.auth_token.clone(),
        server_id: &hello.server_id,
        name: &hello.name,
        is_hub: hello.is_hub,
        cluster: &hello.cluster,
        headers: hello.headers,
        deny_pub: &hello.deny_pub,
        isolate: hello.isolate,
        compress_mode: &hello.compress_mode,
        remote_account: &hello.remote_account,
    }
    .write(&mut line);
    let json = argument("CONNECT", parse::leaf(&line, &LIMITS), &line);
    let again = LeafHello::parse(json).expect("what a leaf writes can be read");
    let expected = LeafHello {
        lang: String::new(),
        gateway: String::new(),
        account: None,
        new_account: false,
        ..hello.clone()
    };
    assert_eq!(again, expected);
}

/// The JSON of the one operation that a line was parsed to, which is this one.
fn argument<'a>(verb: &str, parsed: Result<Parsed<'a>, ProtoError>, line: &[u8]) -> &'a [u8] {
    match (verb, parsed) {
        (
            "CONNECT",
            Ok(Parsed::Op {
                op: Op::Connect(json),
                len,
            }),
        ) if len == line.len() => json,
        (
            "INFO",
            Ok(Parsed::Op {
                op: Op::Info(json),
                len,
            }),
        ) if len == line.len() => json,
        _ => panic!("{:?}", line.escape_ascii().to_string()),
    }
}

fn hides_secrets(connect: &ClientConnect) {
    let secrets = [
        &connect.pass,
        &connect.auth_token,
        &connect.jwt,
        &connect.sig,
    ];
    // Short ones are found in any text.
    let hidden = |secret: &Secret| secret.reveal().len() > 6;
    let all = format!("{connect:?}");
    let mut bare = connect.clone();
    (bare.pass, bare.auth_token, bare.jwt, bare.sig) = (None, None, None, None);
    let bare = format!("{bare:?}");
    for secret in secrets
        .into_iter()
        .flatten()
        .filter(|secret| hidden(secret))
    {
        assert!(
            !all.contains(secret.reveal())
                || bare.contains(secret.reveal())
                || "[REDACTED]".contains(secret.reveal())
        );
    }
}

/// What a hub reads of a CONNECT that we write is what we put in.
fn write_connect(connect: &ClientConnect) {
    let mut line = Vec::new();
    LeafConnect {
        version: &connect.version,
        nkey: connect.nkey.clone(),
        jwt: connect.jwt.clone(),
        sig: connect.sig.clone(),
        user: connect.user.clone().map(Secret::new),
        pass: connect.pass.clone(),
        auth_token: connect.auth_token.clone(),
        server_id: &connect.lang,
        name: &connect.name,
        headers: connect.headers,
        ..LeafConnect::default()
    }
    .write(&mut line);
    let json = argument("CONNECT", parse::client(&line, &LIMITS), &line);
    let again = ClientConnect::parse(json).expect("what we write can be read");
    let expected = ClientConnect {
        version: connect.version.clone(),
        nkey: connect.nkey.clone(),
        jwt: connect.jwt.clone(),
        sig: connect.sig.clone(),
        user: connect.user.clone(),
        pass: connect.pass.clone(),
        auth_token: connect.auth_token.clone(),
        name: connect.name.clone(),
        headers: connect.headers,
        ..ClientConnect::default()
    };
    assert_eq!(again, expected);
}

/// What a peer reads of an INFO that we write is what we put in.
fn write_info(info: &LeafInfo) {
    let mut line = Vec::new();
    ServerInfo {
        server_id: &info.server_id,
        server_name: &info.server_name,
        version: &info.version,
        host: &info.host,
        port: info.port.unsigned_abs() as u16,
        headers: info.headers,
        auth_required: info.auth_required,
        tls_required: info.tls_required,
        tls_verify: info.tls_verify,
        max_payload: info.max_payload.unsigned_abs() as usize >> 1,
        client_id: info.client_id,
        nonce: info.nonce.as_deref(),
        connect_info: info.connect_info,
        remote_account: info.remote_account.as_deref(),
        ..ServerInfo::default()
    }
    .write(&mut line);
    let json = argument("INFO", parse::leaf(&line, &LIMITS), &line);
    let again = LeafInfo::parse(json).expect("what we write can be read");
    let expected = LeafInfo {
        server_id: info.server_id.clone(),
        server_name: info.server_name.clone(),
        version: info.version.clone(),
        proto: 1,
        host: info.host.clone(),
        port: (info.port.unsigned_abs() as u16).into(),
        headers: info.headers,
        auth_required: info.auth_required,
        tls_required: info.tls_required,
        tls_verify: info.tls_verify,
        max_payload: (info.max_payload.unsigned_abs() >> 1) as i64,
        client_id: info.client_id,
        nonce: info.nonce.clone(),
        connect_info: info.connect_info,
        remote_account: info.remote_account.clone(),
        ..LeafInfo::default()
    };
    assert_eq!(again, expected);
}

/// What a leaf reads of an INFO that the acceptor writes is what it put in.
fn write_hub_info(info: &LeafInfo) {
    let mut line = Vec::new();
    let urls = info.leafnode_urls.clone().unwrap_or_default();
    HubInfo {
        server_id: &info.server_id,
        server_name: &info.server_name,
        version: &info.version,
        proto: 1,
        go: "",
        host: &info.host,
        port: info.port.unsigned_abs() as u16,
        headers: info.headers,
        auth_required: true,
        tls_required: info.tls_required,
        tls_verify: info.tls_verify,
        max_payload: info.max_payload.unsigned_abs() as usize >> 1,
        ip: "",
        client_id: info.client_id,
        nonce: info.nonce.as_deref(),
        compression: info.compression.as_deref(),
        cluster: info.cluster.as_deref().unwrap_or_default(),
        connect_info: info.connect_info,
        remote_account: info.remote_account.as_deref(),
        import: info.import.as_ref(),
        export: info.export.as_ref(),
        info_on_connect: true,
        leafnode_urls: &urls,
    }
    .write(&mut line);
    let json = argument("INFO", parse::leaf(&line, &LIMITS), &line);
    let again = LeafInfo::parse(json).expect("what we write can be read");
    let expected = LeafInfo {
        proto: 1,
        port: (info.port.unsigned_abs() as u16).into(),
        auth_required: true,
        max_payload: (info.max_payload.unsigned_abs() >> 1) as i64,
        domain: None,
        jetstream: false,
        acc_is_sys: false,
        info_on_connect: true,
        leafnode_urls: Some(urls),
        ws_connect_urls: None,
        ..info.clone()
    };
    assert_eq!(again, expected);
}
