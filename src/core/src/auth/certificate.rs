//! What a verified certificate says about its owner, and the names by which a user of the
//! configuration may mean it.
//!
//! Plain data: whoever read the certificate fills it in. Verifies nothing and reads no DER.

use std::fmt::Write as _;

/// The common name's object identifier.
const COMMON_NAME: &str = "2.5.4.3";
/// The domain component's, which no short name of a subject's text covers.
const DOMAIN_COMPONENT: &str = "0.9.2342.19200300.100.1.25";

/// The attributes that a subject's text names, from its end to its beginning, whatever their order
/// in the certificate. Others come after them as numbers.
const TEXT_ORDER: [(&str, &str); 9] = [
    ("2.5.4.6", "C"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.17", "POSTALCODE"),
    (COMMON_NAME, "CN"),
    ("2.5.4.5", "SERIALNUMBER"),
];

/// More short names that a configured distinguished name may use.
const MORE_NAMES: [(&str, &str); 6] = [
    (DOMAIN_COMPONENT, "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("2.5.4.4", "SN"),
    ("2.5.4.42", "GIVENNAME"),
    ("2.5.4.12", "TITLE"),
    ("1.2.840.113549.1.9.1", "EMAILADDRESS"),
];

/// The names of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Subject alternative names that are e-mail addresses, in order.
    pub emails: Vec<String>,
    /// Subject alternative names that are host names, in order.
    pub dns: Vec<String>,
    /// Subject alternative names that are URIs, in order.
    pub uris: Vec<String>,
    /// The subject as nats-server compares it: the most specific part first (RFC 2253), in an order
    /// of its own and without parts that have no short name, like `CN=cli,OU=ou1,O=org1`.
    pub subject: String,
    /// The same with all parts, for whoever looks for the certificate.
    pub full_subject: String,
    /// `subject`, followed by the domain components in the certificate's order, like
    /// `CN=cli,DC=com,DC=example`. `None`: it has no domain component.
    pub subject_with_domain: Option<String>,
    /// The subject as a distinguished name.
    pub name: DistinguishedName,
}

/// One attribute of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its type: an object identifier with dots.
    pub oid: String,
    /// Its value; what is no text is empty.
    pub value: String,
    /// Its value's DER, which stands for it where the type has no short name.
    pub der: Vec<u8>,
}

impl Certificate {
    /// A certificate of this subject, in the order of the certificate, without alternative names.
    pub fn of_subject(subject: &[Vec<Attribute>]) -> Certificate {
        let (named, others) = texts(subject);
        let components: Vec<String> = subject
            .iter()
            .flatten()
            .filter(|attribute| attribute.oid == DOMAIN_COMPONENT)
            .map(|attribute| format!("DC={}", attribute.value))
            .collect();
        let subject_with_domain =
            (!components.is_empty()).then(|| join(&[named.as_str(), &components.join(",")]));
        Certificate {
            full_subject: join(&[named.as_str(), others.as_str()]),
            subject: named,
            subject_with_domain,
            name: DistinguishedName::of_subject(subject),
            ..Certificate::default()
        }
    }
}

fn join(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(",")
}

/// The attributes that have a short name, and the others, both as text.
fn texts(subject: &[Vec<Attribute>]) -> (String, String) {
    let mut named = Vec::new();
    for (oid, short) in TEXT_ORDER.iter().rev() {
        let values: Vec<String> = subject
            .iter()
            .flatten()
            .filter(|attribute| attribute.oid == *oid)
            .map(|attribute| format!("{short}={}", escaped(&attribute.value)))
            .collect();
        // There is one of these; a certificate with more of them means the last.
        let values = match (*short, values.as_slice()) {
            ("CN" | "SERIALNUMBER", [.., last]) => std::slice::from_ref(last),
            (_, all) => all,
        };
        if !values.is_empty() {
            named.push(values.join("+"));
        }
    }
    let others: Vec<String> = subject
        .iter()
        .flatten()
        .rev()
        .filter(|attribute| !TEXT_ORDER.iter().any(|(oid, _)| attribute.oid == *oid))
        .map(|attribute| {
            let mut text = format!("{}=#", attribute.oid);
            for byte in &attribute.der {
                // Writing to a string does not fail.
                let _ = write!(text, "{byte:02x}");
            }
            text
        })
        .collect();
    (named.join(","), others.join(","))
}

/// A value as RFC 2253 writes it.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, letter) in value.chars().enumerate() {
        let escape = match letter {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => at == 0 || at == last,
            '#' => at == 0,
            _ => false,
        };
        if escape {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

/// A distinguished name: a sequence of sets of a type and a value, the most specific set first.
/// Types compare without case, values with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistinguishedName(Vec<Vec<(String, Vec<u8>)>>);

impl DistinguishedName {
    /// Reads the text form (RFC 4514). `None`: it is none, or it is empty.
    pub fn parse(text: &str) -> Option<DistinguishedName> {
        let mut reader = Reader { rest: text };
        let mut name = Vec::new();
        let mut set = Vec::new();
        loop {
            set.push(reader.attribute()?);
            match reader.next() {
                Some('+') => {}
                Some(_) => name.push(sorted(std::mem::take(&mut set))),
                None => {
                    name.push(sorted(set));
                    return Some(DistinguishedName(name));
                }
            }
        }
    }

    /// The same sets in any order. Nothing is like the empty name.
    pub fn is_permutation_of(&self, other: &DistinguishedName) -> bool {
        !self.0.is_empty() && sorted(self.0.clone()) == sorted(other.0.clone())
    }

    fn of_subject(subject: &[Vec<Attribute>]) -> DistinguishedName {
        let sets = subject.iter().rev().map(|set| {
            let pairs = set
                .iter()
                .map(|attribute| (short_name(&attribute.oid), attribute.value.clone().into()));
            sorted(pairs.collect())
        });
        DistinguishedName(sets.collect())
    }
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items
}

/// The type in one spelling: its short name where it has one.
fn short_name(oid: &str) -> String {
    let upper = oid.to_ascii_uppercase();
    let number = upper.strip_prefix("OID.").unwrap_or(&upper);
    TEXT_ORDER
        .iter()
        .chain(&MORE_NAMES)
        .find(|(oid, _)| *oid == number)
        .map_or_else(|| number.to_owned(), |(_, short)| (*short).to_owned())
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// `type=value`, up to the separator.
    fn attribute(&mut self) -> Option<(String, Vec<u8>)> {
        let (kind, rest) = self.rest.split_once('=')?;
        let kind = kind.trim();
        let is_type = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        if kind.is_empty() || !kind.bytes().all(is_type) {
            return None;
        }
        self.rest = rest.trim_start_matches(' ');
        let value = if self.rest.starts_with('#') {
            self.encoded()?
        } else {
            self.text()?
        };
        Some((short_name(kind), value))
    }

    /// `#` and a string's DER in hex.
    fn encoded(&mut self) -> Option<Vec<u8>> {
        let end = self.rest.find([',', '+', ';']).unwrap_or(self.rest.len());
        let (hex, rest) = self.rest.split_at(end);
        self.rest = rest;
        let hex = hex.trim_end().strip_prefix('#')?.to_ascii_lowercase();
        let der = data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?;
        match der.as_slice() {
            [_, len, value @ ..] if usize::from(*len) == value.len() && *len < 0x80 => {
                Some(value.to_vec())
            }
            _ => None,
        }
    }

    /// A value with its escapes resolved and without the spaces around it.
    fn text(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        // Spaces at the end belong to the value only where they are escaped.
        let mut kept = 0;
        loop {
            match self.rest.chars().next() {
                None | Some(',' | '+' | ';') => break,
                Some('\\') => {
                    self.next();
                    self.escape(&mut value)?;
                    kept = value.len();
                }
                Some(letter) => {
                    self.next();
                    value.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                    if letter != ' ' {
                        kept = value.len();
                    }
                }
            }
        }
        value.truncate(kept);
        Some(value)
    }

    /// What follows a backslash: two hex digits, or a letter that means itself.
    fn escape(&mut self, value: &mut Vec<u8>) -> Option<()> {
        let digit = |text: &str, at| text.chars().nth(at).and_then(|digit| digit.to_digit(16));
        if let (Some(high), Some(low)) = (digit(self.rest, 0), digit(self.rest, 1)) {
            value.push(u8::try_from(high * 16 + low).ok()?);
            self.next();
            self.next();
        } else {
            let letter = self.next()?;
            value.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Some(())
    }

    fn next(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let letter = letters.next()?;
        self.rest = letters.as_str();
        Some(letter)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A subject in the certificate's order, each attribute a set of its own.
    pub(crate) fn subject(attributes: &[(&str, &str)]) -> Vec<Vec<Attribute>> {
        let attribute = |(short, value): &(&str, &str)| {
            let known = TEXT_ORDER.iter().chain(&MORE_NAMES);
            let (oid, _) = known.clone().find(|(_, name)| name == short).unwrap();
            let mut der = vec![0x0c, u8::try_from(value.len()).unwrap()];
            der.extend_from_slice(value.as_bytes());
            vec![Attribute {
                oid: (*oid).into(),
                value: (*value).into(),
                der,
            }]
        };
        attributes.iter().map(attribute).collect()
    }

    #[test]
    fn subjects_are_written_most_specific_first() {
        for (attributes, want, with_domain) in [
            (
                &[("O", "org1"), ("OU", "ou1"), ("CN", "cli")][..],
                "CN=cli,OU=ou1,O=org1",
                None,
            ),
            // The order of the certificate does not matter.
            (
                &[
                    ("CN", "cli"),
                    ("O", "org1"),
                    ("C", "US"),
                    ("L", "x"),
                    ("ST", "y"),
                ],
                "CN=cli,ST=y,L=x,O=org1,C=US",
                None,
            ),
            (
                &[("OU", "a"), ("CN", " a,b+c\"\\<>; "), ("OU", "#b#")],
                "CN=\\ a\\,b\\+c\\\"\\\\\\<\\>\\;\\ ,OU=a+OU=\\#b#",
                None,
            ),
            (
                &[("DC", "com"), ("DC", "ex"), ("OU", "y"), ("CN", "x")],
                "CN=x,OU=y,0.9.2342.19200300.100.1.25=#0c026578,0.9.2342.19200300.100.1.25=#0c03636f6d",
                Some("CN=x,OU=y,DC=com,DC=ex"),
            ),
            (&[], "", None),
        ] {
            let certificate = Certificate::of_subject(&subject(attributes));
            assert_eq!(certificate.full_subject, want);
            let named = want.split_once(",0.9").map_or(want, |(named, _)| named);
            assert_eq!(certificate.subject, named);
            assert_eq!(certificate.subject_with_domain.as_deref(), with_domain);
        }
    }

    #[test]
    fn names_equal_their_text_in_any_order_and_spelling() {
        let name = Certificate::of_subject(&subject(&[
            ("DC", "com"),
            ("O", "org, inc"),
            ("OU", "ou1"),
            ("CN", "cli"),
        ]))
        .name;
        for same in [
            "CN=cli,OU=ou1,O=org\\, inc,DC=com",
            "cn = cli , oid.2.5.4.11=ou1;O=org\\2c inc,0.9.2342.19200300.100.1.25=com",
            "CN=#0c03636c69,OU=ou1,O=org\\, inc,DC=com",
        ] {
            assert_eq!(DistinguishedName::parse(same), Some(name.clone()), "{same}");
        }
        let other = DistinguishedName::parse("O=org\\, inc,CN=cli,DC=com,OU=ou1").unwrap();
        assert!(other != name && other.is_permutation_of(&name));
        for different in [
            "CN=cli",
            "CN=cli,OU=ou1,O=org\\, inc",
            "CN=CLI,OU=ou1,O=org\\, inc,DC=com",
            "CN=cli+OU=ou1,O=org\\, inc,DC=com",
            "CN=cli,CN=cli,OU=ou1,O=org\\, inc,DC=com",
        ] {
            let different = DistinguishedName::parse(different).unwrap();
            assert!(!different.is_permutation_of(&name), "{different:?}");
        }
        let one = DistinguishedName::parse("CN=a+OU=b").unwrap();
        assert_eq!(DistinguishedName::parse("ou=b+cn=a"), Some(one));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "", "cli", "=x", "CN=a,", "CN=a,b", "CN=a+", "CN=\\", "CN=#0", "CN=#0c05", "C N=x",
        ] {
            assert_eq!(DistinguishedName::parse(text), None, "{text}");
        }
        let nothing = DistinguishedName::default();
        assert!(!nothing.is_permutation_of(&nothing));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,60}", shaped in "([A-Za-z.0-9]{0,4}=[ #\\\\,+;=a-f0-9é\"]{0,8}[,+;]?){0,4}") {
            for text in [text, shaped] {
                let name = DistinguishedName::parse(&text);
                prop_assert_eq!(&name, &DistinguishedName::parse(&text));
                if let Some(name) = name {
                    prop_assert!(name.is_permutation_of(&name));
                }
            }
        }

        #[test]
        fn the_text_of_a_subject_means_the_subject(values in prop::collection::vec(".{1,12}", 1..5)) {
            let names = ["O", "OU", "L", "CN"];
            let attributes: Vec<_> = names.iter().copied().zip(values.iter().map(String::as_str)).collect();
            let certificate = Certificate::of_subject(&subject(&attributes));
            let name = DistinguishedName::parse(&certificate.full_subject).unwrap();
            prop_assert!(name.is_permutation_of(&certificate.name), "{}", certificate.full_subject);
        }
    }
}
