//! The digest of an expanded configuration: SHA-256 over the JSON Go would write of it.

use sha2::{Digest, Sha256};

use super::value::{Map, Value};

/// The digest in hex, without the `sha256:` that is printed before it.
pub(super) fn digest(map: &Map) -> String {
    let mut json = String::new();
    write_map(map, &mut json);
    json.push('\n');
    let hash = Sha256::digest(json.as_bytes());
    data_encoding::HEXLOWER.encode(&hash)
}

fn write_map(map: &Map, out: &mut String) {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    out.push('{');
    for (i, entry) in entries.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_text(&entry.key, out);
        out.push(':');
        write_value(&entry.node.value, out);
    }
    out.push('}');
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::String(text) | Value::Time(text) => write_text(text, out),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Float(n) => out.push_str(&float(*n)),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Array(list) => {
            out.push('[');
            for (i, node) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(&node.value, out);
            }
            out.push(']');
        }
        Value::Map(map) => write_map(map, out),
    }
}

/// Go changes to exponents outside of 1e-6 to 1e21 and always signs them.
fn float(n: f64) -> String {
    let size = n.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{n:e}");
        return if size >= 1e21 {
            text.replace('e', "e+")
        } else {
            text
        };
    }
    n.to_string()
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::parse::parse_text;
    use crate::config::testing::Files;

    /// 1, 16: what nats-server 2.15.1 prints for the same texts.
    #[test]
    fn as_the_real_server() {
        let port = "797533ebd0dfba7d34a0f9337ecf147e442871f48ddfd07ed751575a5737267e";
        for (text, wanted) in [
            ("port: 4222", port),
            ("port = 4222", port),
            ("port 4222", port),
            ("\"port\": 4222,", port),
            ("{\"port\":4222}", port),
            (
                "port: 4222\nhttp_port: $port\nserver_metadata: {a: \"<b>&\", z: y}\nserver_tags: [b, a]",
                "343db6df0ac2ecbdf95ae3a4dc608b7112faa2b069c0bc94685f4e88b1970509",
            ),
            (
                "authorization {user: a, password: b}; accounts: {A: {}}",
                "9c6293119fd6b2df89ab02f46943ed8a5c9f2c06090b05c37341eb3ec3cbaeb6",
            ),
            (
                "x: 0.0000001\naccounts: {u: [$x]}\naccounts: []",
                "a6432f201ee8ef90c6d17000be09343275e5cdb52aa5ee570147a4ec6c833ca9",
            ),
            (
                "x: 123456789012345678901234.5\naccounts: {u: [$x]}\naccounts: []",
                "280eab7af50b0b8d458e98abab6b7ea1efe6e8528bd8504c01f948b4bbeb34b3",
            ),
            (
                "x: -0.0\naccounts: {u: [$x]}\naccounts: []",
                "e425978e237ac8a8d1c2c5b6662652b68e919c171e265ab280c233a409de204e",
            ),
            (
                "x: 1.50\naccounts: {u: [$x]}\naccounts: []",
                "2599b95c446e886fc502b765829b55c94dee34d3b4c7232b4a7592806edad4af",
            ),
            (
                "x: 2020-01-01T00:00:00Z\naccounts: {u: [$x]}\naccounts: []",
                "9c4dde396763bd059b92c4176fd2808a91b890439f402575e0f2be4d0e295ce8",
            ),
            (
                "x: \"\\x01\\x7f\\x08\\x0c<>&é\"\naccounts: {u: [$x]}\naccounts: []",
                "5838e06d965d7f1979d68877a97efa3b9a8161aa8837e3e78706e44f6e5d3638",
            ),
            (
                "x: [a,{b:1\n}]\naccounts: {u: [$x]}\naccounts: []",
                "e7f80a7d7a81b3a4aba7d0054e06b4c33eee61f3546cbc3f5c10dca1ca2c3477",
            ),
        ] {
            let map = parse_text(text, "f", &Files::default()).unwrap();
            assert_eq!(digest(&map), wanted, "{text}");
        }
    }
}
