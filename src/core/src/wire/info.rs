//! The JSON of `INFO` and `CONNECT`.
//!
//! What we send omits what is false or empty. What we read is treated as the Go servers treat it:
//! unknown keys are skipped, `null` leaves the default, of a repeated key the last counts, a value
//! of the wrong type refuses the whole object. Secrets never show in `Debug`.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::ProtoError;
use super::write;
use crate::config::model::{Secret, SubjectRules};

/// `INFO` to a client.
///
/// Client protocol, INFO: in this order; false, zero and empty optional fields are omitted.
#[derive(Clone, Debug, Serialize)]
pub struct ServerInfo<'a> {
    /// The server's public nkey, `N...`.
    pub server_id: &'a str,
    /// Defaults to the id.
    pub server_name: &'a str,
    /// Clients decide by it what they may use.
    pub version: &'a str,
    /// Always 1: we send later `INFO`s to those who asked.
    pub proto: u8,
    /// What it was built with; informational.
    pub go: &'a str,
    /// The listener's host, or what is advertised for it.
    pub host: &'a str,
    /// The listener's port, or what is advertised for it.
    pub port: u16,
    /// Whether header blocks are supported.
    pub headers: bool,
    /// Whether credentials are needed.
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    /// Whether the client must upgrade to TLS.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    /// Whether it must show a certificate.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    /// Whether it may upgrade to TLS.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_available: bool,
    /// The longest message taken, in bytes.
    pub max_payload: usize,
    /// The connection's id.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_id: u64,
    /// The client's address as we see it.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub client_ip: &'a str,
    /// What an nkey user signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<&'a str>,
    /// `host:port` of all known servers.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub connect_urls: &'a [String],
    /// Lame duck: the server is about to go.
    #[serde(skip_serializing_if = "is_false")]
    pub ldm: bool,
    /// Marks the `INFO` after the first `PONG`, which names the account.
    #[serde(skip_serializing_if = "is_false")]
    pub connect_info: bool,
    /// The account the client is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_account: Option<&'a str>,
}

impl Default for ServerInfo<'_> {
    fn default() -> Self {
        ServerInfo {
            server_id: "",
            server_name: "",
            version: "",
            proto: 1,
            go: "",
            host: "",
            port: 0,
            headers: true,
            auth_required: false,
            tls_required: false,
            tls_verify: false,
            tls_available: false,
            max_payload: 0,
            client_id: 0,
            client_ip: "",
            nonce: None,
            connect_urls: &[],
            ldm: false,
            connect_info: false,
            remote_account: None,
        }
    }
}

impl ServerInfo<'_> {
    /// Appends the whole `INFO` line.
    pub fn write(&self, out: &mut Vec<u8>) {
        write::info(out, &json(self));
    }
}

/// A client's `CONNECT`.
///
/// Client protocol, CONNECT: the defaults here are those of a client that sends none at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConnect {
    /// `+OK` after each accepted operation.
    pub verbose: bool,
    /// Subjects published to are checked.
    pub pedantic: bool,
    /// Whether its own subscriptions get what it publishes.
    pub echo: bool,
    /// It understands header blocks.
    pub headers: bool,
    /// It wants a 503 when nobody can answer a request.
    pub no_responders: bool,
    /// 1: it takes later `INFO`s. Any number can stand here; only 0 and 1 are legal.
    pub protocol: i64,
    /// The library's language; informational. On a leaf port it betrays a client.
    pub lang: String,
    /// The library's version; informational.
    pub version: String,
    /// The client's name; informational.
    pub name: String,
    /// Informational.
    pub tls_required: bool,
    /// User name. Empty text counts as absent, here and below.
    pub user: Option<String>,
    /// Password.
    pub pass: Option<Secret>,
    /// Token.
    pub auth_token: Option<Secret>,
    /// The user's public nkey.
    pub nkey: Option<String>,
    /// The user's JWT. A bearer JWT is a credential by itself.
    pub jwt: Option<Secret>,
    /// The signature over the nonce, in base64.
    pub sig: Option<Secret>,
    /// Obsolete; a client that gives it is refused.
    pub account: Option<String>,
    /// Obsolete; a client that gives it is refused.
    pub new_account: bool,
}

impl Default for ClientConnect {
    fn default() -> Self {
        ClientConnect {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
            lang: String::new(),
            version: String::new(),
            name: String::new(),
            tls_required: false,
            user: None,
            pass: None,
            auth_token: None,
            nkey: None,
            jwt: None,
            sig: None,
            account: None,
            new_account: false,
        }
    }
}

impl ClientConnect {
    /// Reads the argument of `CONNECT`. What is not an object of the right types closes the
    /// connection without a word.
    pub fn parse(json: &[u8]) -> Result<Self, ProtoError> {
        Self::default().parse_over(json)
    }

    /// Reads a further `CONNECT`: what it does not name stays as it was.
    pub fn parse_over(self, json: &[u8]) -> Result<Self, ProtoError> {
        // `null` is an object without fields to real servers.
        if json.trim_ascii() == b"null" {
            return Ok(self);
        }
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        self.overlaid(&mut deserializer)
            .and_then(|connect| deserializer.end().map(|()| connect))
            .map_err(|_| ProtoError::Malformed("JSON of CONNECT"))
    }
}

/// `INFO` from the hub a leaf has dialled.
///
/// Leaf protocol, INFO: the first one has a nonce and a client id; the one that answers `CONNECT`
/// has `connect_info`; later ones bring new lists of servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafInfo {
    /// The hub's public nkey.
    pub server_id: String,
    /// The hub's name; may be empty.
    pub server_name: String,
    /// The hub's version.
    pub version: String,
    /// 3 and more: it understands message tracing.
    pub proto: i64,
    /// Advertised host.
    pub host: String,
    /// Advertised port.
    pub port: i64,
    /// Whether it understands header blocks.
    pub headers: bool,
    /// Always true; says nothing.
    pub auth_required: bool,
    /// We must upgrade to TLS at once.
    pub tls_required: bool,
    /// We must show a certificate.
    pub tls_verify: bool,
    /// The longest message it takes; 0 and less when it does not say.
    pub max_payload: i64,
    /// The link's id at the hub; 0 in a first `INFO` betrays another kind of port.
    pub client_id: u64,
    /// What we sign.
    pub nonce: Option<String>,
    /// Its compression mode; `None` from servers before 2.10.
    pub compression: Option<String>,
    /// Its cluster.
    pub cluster: Option<String>,
    /// Its JetStream domain.
    pub domain: Option<String>,
    /// Whether it has JetStream.
    pub jetstream: bool,
    /// Whether an `INFO` follows our `CONNECT`.
    pub info_on_connect: bool,
    /// Whether this is that `INFO`.
    pub connect_info: bool,
    /// The account we are bound to at the hub.
    pub remote_account: Option<String>,
    /// Whether that is its system account.
    pub acc_is_sys: bool,
    /// What we may receive; `None` leaves it as it was.
    pub import: Option<SubjectRules>,
    /// What we may publish; `None` leaves it as it was.
    pub export: Option<SubjectRules>,
    /// `host:port` of all leaf listeners. Absence (`None`) and an empty list differ: absence
    /// betrays a wrong port unless `info_on_connect` is set.
    pub leafnode_urls: Option<Vec<String>>,
    /// The same for WebSocket.
    pub ws_connect_urls: Option<Vec<String>>,
}

impl LeafInfo {
    /// Reads the argument of `INFO`.
    pub fn parse(json: &[u8]) -> Result<Self, ProtoError> {
        serde_json::from_slice(json).map_err(|_| ProtoError::Malformed("JSON of INFO"))
    }
}

/// Our `CONNECT` to a hub.
///
/// Leaf protocol, CONNECT: in this order, what is empty is omitted. There is no `protocol` field:
/// from 3 on it would claim message tracing, which we do not do. Nor `domain` and `jetstream`: we
/// have none.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LeafConnect<'a> {
    /// Our version, checked against the hub's `min_version`.
    pub version: &'a str,
    /// Our public user nkey.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<String>,
    /// The user JWT.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "reveal")]
    pub jwt: Option<Secret>,
    /// The signature over the nonce.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "reveal")]
    pub sig: Option<Secret>,
    /// The user name; with a URL that has only that, it is the token too, and so a secret.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "reveal")]
    pub user: Option<Secret>,
    /// The password.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "reveal")]
    pub pass: Option<Secret>,
    /// The token.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "reveal")]
    pub auth_token: Option<Secret>,
    /// Our id.
    pub server_id: &'a str,
    /// Our name; the hub tells duplicates by it.
    pub name: &'a str,
    /// We take the hub's role.
    #[serde(skip_serializing_if = "is_false")]
    pub is_hub: bool,
    /// Our cluster name, else our name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub cluster: &'a str,
    /// We both understand header blocks.
    #[serde(skip_serializing_if = "is_false")]
    pub headers: bool,
    /// What must not be delivered to us.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub deny_pub: &'a [String],
    /// We do not want interest of the hub's other leafs.
    #[serde(skip_serializing_if = "is_false")]
    pub isolate: bool,
    /// The compression in effect: `off`, `s2_...` or `not supported`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub compress_mode: &'a str,
    /// Our own account's name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub remote_account: &'a str,
}

impl LeafConnect<'_> {
    /// Appends the whole `CONNECT` line.
    pub fn write(&self, out: &mut Vec<u8>) {
        write::connect(out, &json(self));
    }
}

/// `INFO` to a leaf that has dialled us.
///
/// Leaf protocol, INFO: in this order; false, zero and empty optional fields are omitted. `proto` is 1,
/// as from 3 on it would claim message tracing.
#[derive(Clone, Debug, Serialize)]
pub struct HubInfo<'a> {
    /// Our public nkey, `N...`.
    pub server_id: &'a str,
    /// Our name.
    pub server_name: &'a str,
    /// Leafs decide by it what they may use.
    pub version: &'a str,
    /// Always 1.
    pub proto: u8,
    /// What it was built with; informational.
    pub go: &'a str,
    /// The listener's host, or what is advertised for it.
    pub host: &'a str,
    /// The listener's port, or what is advertised for it.
    pub port: u16,
    /// Whether header blocks are supported.
    pub headers: bool,
    /// Always true; says nothing.
    pub auth_required: bool,
    /// The leaf must upgrade to TLS at once.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    /// It must show a certificate.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    /// The longest message taken, in bytes.
    pub max_payload: usize,
    /// `host:port`.
    pub ip: &'a str,
    /// The link's id; without it a leaf takes the port for another kind.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_id: u64,
    /// What the leaf signs. Not in the answer to CONNECT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<&'a str>,
    /// Our compression mode; `None` where none can be agreed on any more, or never could.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<&'a str>,
    /// Our cluster, or our name if we are a leaf ourselves.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub cluster: &'a str,
    /// Whether this answers CONNECT.
    #[serde(skip_serializing_if = "is_false")]
    pub connect_info: bool,
    /// The account the leaf is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_account: Option<&'a str>,
    /// What the leaf may receive.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rules")]
    pub import: Option<&'a SubjectRules>,
    /// What the leaf may publish.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rules")]
    pub export: Option<&'a SubjectRules>,
    /// Always true: CONNECT is answered.
    pub info_on_connect: bool,
    /// `host:port` of all leaf listeners. Never left out: older leafs take that for a wrong port.
    pub leafnode_urls: &'a [String],
}

impl HubInfo<'_> {
    /// Appends the whole `INFO` line.
    pub fn write(&self, out: &mut Vec<u8>) {
        write::info(out, &json(self));
    }
}

/// The `CONNECT` of a leaf that has dialled us (leaf protocol, CONNECT).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafHello {
    /// Its version; empty counts as too old for any `min_version`.
    pub version: String,
    /// The user's public nkey. Empty text counts as absent, here and below.
    pub nkey: Option<String>,
    /// The user's JWT.
    pub jwt: Option<Secret>,
    /// The signature over the nonce, in base64.
    pub sig: Option<Secret>,
    /// User name.
    pub user: Option<String>,
    /// Password.
    pub pass: Option<Secret>,
    /// Token.
    pub auth_token: Option<Secret>,
    /// Its public nkey; informational.
    pub server_id: String,
    /// Its name: tells duplicates.
    pub name: String,
    /// It takes the hub's role.
    pub is_hub: bool,
    /// Its cluster, else its name.
    pub cluster: String,
    /// It understands header blocks.
    pub headers: bool,
    /// What must not be delivered to it.
    pub deny_pub: Vec<String>,
    /// It does not want interest of our other leafs.
    pub isolate: bool,
    /// The compression in effect; informational.
    pub compress_mode: String,
    /// Its own account's name: tells duplicates.
    pub remote_account: String,
    /// Not empty: a client, on the wrong port.
    pub lang: String,
    /// Not empty: a gateway, on the wrong port.
    pub gateway: String,
    /// Obsolete; who gives it is refused.
    pub account: Option<String>,
    /// Obsolete; who gives it is refused.
    pub new_account: bool,
}

impl LeafHello {
    /// Reads the argument of `CONNECT`. What is not an object of the right types closes the link
    /// without a word.
    pub fn parse(json: &[u8]) -> Result<Self, ProtoError> {
        serde_json::from_slice(json).map_err(|_| ProtoError::Malformed("JSON of CONNECT"))
    }
}

/// Text and numbers into memory: serde_json has nothing to fail on there.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// What is empty is omitted.
fn rules<S: Serializer>(rules: &Option<&SubjectRules>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Lists<'a> {
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        allow: &'a [String],
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        deny: &'a [String],
    }
    let lists = rules.map(|SubjectRules { allow, deny }| Lists { allow, deny });
    lists.serialize(serializer)
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn reveal<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::reveal).serialize(serializer)
}

/// Reads a JSON object key by key into the type's default. serde's derived code would refuse a
/// repeated key and a `null`.
macro_rules! read_object {
    ($type:ty { $($field:ident),* $(,)? }) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$type>::default().overlaid(deserializer)
            }
        }

        impl $type {
            /// With the fields that the object names, the others as they were.
            fn overlaid<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<Self, D::Error> {
                struct Fields($type);

                impl<'de> Visitor<'de> for Fields {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a JSON object")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$type, A::Error> {
                        let mut object = self.0;
                        while let Some(key) = map.next_key::<String>()? {
                            // Real servers read keys in any letter case.
                            $(if key.eq_ignore_ascii_case(stringify!($field)) {
                                object.$field.read(&mut map)?;
                                continue;
                            })*
                            map.next_value::<IgnoredAny>()?;
                        }
                        Ok(object)
                    }
                }

                deserializer.deserialize_map(Fields(self))
            }
        }
    };
}

read_object!(ClientConnect {
    verbose,
    pedantic,
    echo,
    headers,
    no_responders,
    protocol,
    lang,
    version,
    name,
    tls_required,
    user,
    pass,
    auth_token,
    nkey,
    jwt,
    sig,
    account,
    new_account,
});

read_object!(LeafInfo {
    server_id,
    server_name,
    version,
    proto,
    host,
    port,
    headers,
    auth_required,
    tls_required,
    tls_verify,
    max_payload,
    client_id,
    nonce,
    compression,
    cluster,
    domain,
    jetstream,
    info_on_connect,
    connect_info,
    remote_account,
    acc_is_sys,
    import,
    export,
    leafnode_urls,
    ws_connect_urls,
});

read_object!(LeafHello {
    version,
    nkey,
    jwt,
    sig,
    user,
    pass,
    auth_token,
    server_id,
    name,
    is_hub,
    cluster,
    headers,
    deny_pub,
    isolate,
    compress_mode,
    remote_account,
    lang,
    gateway,
    account,
    new_account,
});

#[derive(Default)]
struct Rules {
    allow: Vec<String>,
    deny: Vec<String>,
}

read_object!(Rules { allow, deny });

/// How a field takes the next value of the object.
trait Field {
    fn read<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error>;
}

macro_rules! plain_field {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn read<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
                if let Some(value) = map.next_value::<Option<$type>>()? {
                    *self = value;
                }
                Ok(())
            }
        }
    )*};
}

plain_field!(bool, i64, u64, String, Vec<String>);

impl Field for Option<String> {
    fn read<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        if let Some(text) = map.next_value::<Option<String>>()? {
            *self = Some(text).filter(|text| !text.is_empty());
        }
        Ok(())
    }
}

impl Field for Option<Secret> {
    fn read<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        let mut text = self.take().map(|secret| secret.reveal().to_owned());
        text.read(map)?;
        *self = text.map(Secret::new);
        Ok(())
    }
}

impl Field for Option<Vec<String>> {
    fn read<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        *self = map.next_value()?;
        Ok(())
    }
}

impl Field for Option<SubjectRules> {
    fn read<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        *self = map
            .next_value::<Option<Rules>>()?
            .map(|rules| SubjectRules {
                allow: rules.allow,
                deny: rules.deny,
            });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_info_has_the_documents_order_and_ending() {
        let urls = ["a:1".to_owned(), "b:2".to_owned()];
        let mut info = ServerInfo {
            server_id: "NCY6",
            server_name: "S",
            version: "2.15.1",
            go: "rust",
            host: "127.0.0.1",
            port: 21000,
            max_payload: 1_048_576,
            client_id: 6,
            client_ip: "127.0.0.1",
            ..ServerInfo::default()
        };
        let mut out = Vec::new();
        info.write(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "INFO {\"server_id\":\"NCY6\",\"server_name\":\"S\",\"version\":\"2.15.1\",\"proto\":1,\
             \"go\":\"rust\",\"host\":\"127.0.0.1\",\"port\":21000,\"headers\":true,\
             \"max_payload\":1048576,\"client_id\":6,\"client_ip\":\"127.0.0.1\"} \r\n"
        );
        info.headers = false;
        info.auth_required = true;
        info.tls_required = true;
        info.nonce = Some("n");
        info.connect_urls = &urls;
        info.ldm = true;
        info.connect_info = true;
        info.remote_account = Some("$G");
        out.clear();
        info.write(&mut out);
        let text = String::from_utf8_lossy(&out);
        assert!(text.contains(
            "\"headers\":false,\"auth_required\":true,\"tls_required\":true,\"max_payload\""
        ));
        assert!(text.ends_with(
            "\"nonce\":\"n\",\"connect_urls\":[\"a:1\",\"b:2\"],\"ldm\":true,\
             \"connect_info\":true,\"remote_account\":\"$G\"} \r\n"
        ));
    }

    #[test]
    fn connect_defaults_nulls_and_repeats() {
        let default = ClientConnect::default();
        for json in [
            "{}",
            r#"{"verbose":null,"protocol":null,"user":null,"pass":null,"lang":null}"#,
            r#"{"unknown":{"verbose":[1,{"x":null}]},"user":"","auth_token":""}"#,
            " {\"echo\":false,\"echo\":true}\r",
        ] {
            assert_eq!(
                ClientConnect::parse(json.as_bytes()),
                Ok(default.clone()),
                "{json}"
            );
        }
        let connect = ClientConnect::parse(
            br#"{"verbose":false,"pedantic":false,"echo":false,"headers":true,"no_responders":true,
                "protocol":-1,"lang":"rust","version":"1","name":"n\u003e","tls_required":true,
                "user":"u","pass":"hush1","auth_token":"hush2","nkey":"U","jwt":"hush3",
                "sig":"hush4","account":"A","new_account":true}"#,
        );
        let connect = connect.unwrap_or_default();
        assert!(!connect.verbose && !connect.pedantic && !connect.echo);
        assert!(connect.headers && connect.no_responders && connect.tls_required);
        assert_eq!(connect.protocol, -1);
        assert_eq!(connect.name, "n>");
        assert_eq!(connect.user.as_deref(), Some("u"));
        assert_eq!(connect.pass, Some(Secret::new("hush1")));
        assert_eq!(connect.account.as_deref(), Some("A"));
        assert!(connect.new_account);
        let shown = format!("{connect:?}");
        assert!(!shown.contains("hush"), "{shown}");
    }

    #[test]
    fn connect_that_is_no_object_is_refused() {
        let deep = format!("{{\"x\":{}}}", "[".repeat(100_000));
        for json in [
            "",
            "[]",
            "1",
            "\"x\"",
            "{",
            "{}x",
            "{'a':1}",
            r#"{"verbose":"yes"}"#,
            r#"{"verbose":1}"#,
            r#"{"protocol":1.5}"#,
            r#"{"protocol":99999999999999999999}"#,
            r#"{"user":7}"#,
            "{\"user\":\"\u{1}\"}",
            &deep,
        ] {
            assert_eq!(
                ClientConnect::parse(json.as_bytes()),
                Err(ProtoError::Malformed("JSON of CONNECT")),
                "{}",
                json.get(..40).unwrap_or(json)
            );
        }
    }

    #[test]
    fn leaf_info_as_captured() {
        let first = LeafInfo::parse(
            br#"{"server_id":"NAF4","server_name":"HUB","version":"2.15.1","proto":3,"go":"go1.27.2","host":"127.0.0.1","port":21001,"headers":true,"auth_required":true,"max_payload":1048576,"ip":"127.0.0.1:21001","client_id":8,"nonce":"3ATRbp9KbTGpdWQ","compression":"off","api_lvl":5,"info_on_connect":true,"leafnode_urls":["127.0.0.1:21001"]} "#,
        )
        .unwrap_or_default();
        assert_eq!(first.client_id, 8);
        assert_eq!(first.proto, 3);
        assert_eq!(first.nonce.as_deref(), Some("3ATRbp9KbTGpdWQ"));
        assert_eq!(first.compression.as_deref(), Some("off"));
        assert!(first.info_on_connect && !first.connect_info);
        assert_eq!(
            first.leafnode_urls,
            Some(vec!["127.0.0.1:21001".to_owned()])
        );
        assert_eq!(first.import, None);

        let second = LeafInfo::parse(
            br#"{"connect_info":true,"remote_account":"A","import":{"allow":["in.\u003e","_INBOX.\u003e"],"deny":["in.no"]},"export":{"deny":["out.no"],"allow":null},"leafnode_urls":[],"ws_connect_urls":null}"#,
        )
        .unwrap_or_default();
        let rules = |allow: &[&str], deny: &[&str]| {
            Some(SubjectRules {
                allow: allow.iter().map(|s| s.to_string()).collect(),
                deny: deny.iter().map(|s| s.to_string()).collect(),
            })
        };
        assert_eq!(second.import, rules(&["in.>", "_INBOX.>"], &["in.no"]));
        assert_eq!(second.export, rules(&[], &["out.no"]));
        assert_eq!(second.leafnode_urls, Some(vec![]));
        assert_eq!(second.ws_connect_urls, None);
        assert_eq!(second.remote_account.as_deref(), Some("A"));
        assert!(LeafInfo::parse(b"[]").is_err());
        assert_eq!(LeafInfo::parse(b"{}"), Ok(LeafInfo::default()));
    }

    #[test]
    fn leaf_connect_has_the_documents_order_and_ending() {
        let deny = ["a.>".to_owned()];
        let mut out = Vec::new();
        LeafConnect {
            version: "2.15.1",
            server_id: "NCE2",
            name: "LEAF",
            cluster: "LEAF",
            headers: true,
            compress_mode: "off",
            remote_account: "$G",
            ..LeafConnect::default()
        }
        .write(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "CONNECT {\"version\":\"2.15.1\",\"server_id\":\"NCE2\",\"name\":\"LEAF\",\
             \"cluster\":\"LEAF\",\"headers\":true,\"compress_mode\":\"off\",\
             \"remote_account\":\"$G\"}\r\n"
        );
        let full = LeafConnect {
            jwt: Some(Secret::new("hush1")),
            sig: Some(Secret::new("hush2")),
            user: Some(Secret::new("hush3")),
            pass: Some(Secret::new("hush4")),
            auth_token: Some(Secret::new("hush5")),
            is_hub: true,
            deny_pub: &deny,
            isolate: true,
            ..LeafConnect::default()
        };
        out.clear();
        full.write(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "CONNECT {\"version\":\"\",\"jwt\":\"hush1\",\"sig\":\"hush2\",\"user\":\"hush3\",\
             \"pass\":\"hush4\",\"auth_token\":\"hush5\",\"server_id\":\"\",\"name\":\"\",\
             \"is_hub\":true,\"deny_pub\":[\"a.>\"],\"isolate\":true}\r\n"
        );
        let shown = format!("{full:?}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}
