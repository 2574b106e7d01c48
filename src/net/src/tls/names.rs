//! What stands in a certificate besides what rustls shows: its names, its key, when it is valid.
//!
//! Reads; decides nothing. Whether a certificate may be believed was decided before.

use std::net::IpAddr;

use der::asn1::{AnyRef, GeneralizedTime, ObjectIdentifier, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, TagNumber};
use petiole_core::auth::certificate::{Attribute, Certificate};
use sha2::{Digest, Sha256};

/// `subjectAltName`.
const ALTERNATIVE_NAMES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

/// A certificate that was read.
#[derive(Debug)]
pub(super) struct Facts {
    /// Who it is for.
    pub(super) certificate: Certificate,
    /// Subject alternative names that are addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// SHA-256 of its public key (its SubjectPublicKeyInfo).
    pub(super) key: [u8; 32],
    /// Seconds since 1970.
    pub(super) not_before: u64,
    /// Seconds since 1970.
    pub(super) not_after: u64,
}

/// Reads a certificate. `None`: it is not one.
pub(super) fn read(certificate: &[u8]) -> Option<Facts> {
    parse(certificate).ok()
}

/// SHA-256 in hex.
pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse(certificate: &[u8]) -> der::Result<Facts> {
    let certificate = AnyRef::from_der(certificate)?;
    let mut outer = SliceReader::new(certificate.value())?;
    let mut body = items(&mut outer)?;
    if body.peek_tag()? == context(TagNumber::N0, true) {
        skip(&mut body)?; // version
    }
    skip(&mut body)?; // serial number
    skip(&mut body)?; // signature algorithm
    skip(&mut body)?; // issuer
    let mut validity = items(&mut body)?;
    let not_before = time(&mut validity)?;
    let not_after = time(&mut validity)?;
    let subject = subject(&mut items(&mut body)?)?;
    let key = Sha256::digest(body.tlv_bytes()?).into();
    let mut facts = Facts {
        certificate: Certificate::of_subject(&subject),
        addresses: Vec::new(),
        key,
        not_before,
        not_after,
    };
    while !body.is_finished() {
        let part = AnyRef::decode(&mut body)?;
        if der::Tagged::tag(&part) == context(TagNumber::N3, true) {
            let mut part = SliceReader::new(part.value())?;
            extensions(&mut items(&mut part)?, &mut facts)?;
        }
    }
    Ok(facts)
}

/// What is inside the next item.
fn items<'a>(reader: &mut SliceReader<'a>) -> der::Result<SliceReader<'a>> {
    SliceReader::new(AnyRef::decode(reader)?.value())
}

fn skip(reader: &mut SliceReader<'_>) -> der::Result<()> {
    reader.tlv_bytes().map(|_| ())
}

fn context(number: TagNumber, constructed: bool) -> Tag {
    Tag::ContextSpecific {
        constructed,
        number,
    }
}

fn time(reader: &mut SliceReader<'_>) -> der::Result<u64> {
    let since_1970 = match reader.peek_tag()? {
        Tag::UtcTime => UtcTime::decode(reader)?.to_unix_duration(),
        _ => GeneralizedTime::decode(reader)?.to_unix_duration(),
    };
    Ok(since_1970.as_secs())
}

fn subject(sets: &mut SliceReader<'_>) -> der::Result<Vec<Vec<Attribute>>> {
    let mut subject = Vec::new();
    while !sets.is_finished() {
        let mut set = items(sets)?;
        let mut attributes = Vec::new();
        while !set.is_finished() {
            let mut pair = items(&mut set)?;
            let oid = ObjectIdentifier::decode(&mut pair)?.to_string();
            let der = pair.tlv_bytes()?;
            attributes.push(Attribute {
                oid,
                value: text(AnyRef::from_der(der)?),
                der: der.to_vec(),
            });
        }
        subject.push(attributes);
    }
    Ok(subject)
}

/// A string of any of ASN.1's kinds; empty if it is none.
fn text(value: AnyRef<'_>) -> String {
    match der::Tagged::tag(&value) {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::TeletexString => {
            String::from_utf8_lossy(value.value()).into_owned()
        }
        Tag::BmpString => {
            let units = value.value().chunks_exact(2);
            let units: Vec<u16> = units
                .map(|unit| u16::from_be_bytes([unit[0], unit[1]]))
                .collect();
            String::from_utf16_lossy(&units)
        }
        _ => String::new(),
    }
}

fn extensions(list: &mut SliceReader<'_>, facts: &mut Facts) -> der::Result<()> {
    while !list.is_finished() {
        let mut extension = items(list)?;
        if ObjectIdentifier::decode(&mut extension)? != ALTERNATIVE_NAMES {
            continue;
        }
        if extension.peek_tag()? == Tag::Boolean {
            skip(&mut extension)?;
        }
        let mut names = items(&mut items(&mut extension)?)?;
        while !names.is_finished() {
            alternative_name(AnyRef::decode(&mut names)?, facts);
        }
    }
    Ok(())
}

fn alternative_name(name: AnyRef<'_>, facts: &mut Facts) {
    let bytes = name.value();
    let text = || String::from_utf8_lossy(bytes).into_owned();
    match der::Tagged::tag(&name) {
        tag if tag == context(TagNumber::N1, false) => facts.certificate.emails.push(text()),
        tag if tag == context(TagNumber::N2, false) => facts.certificate.dns.push(text()),
        tag if tag == context(TagNumber::N6, false) => facts.certificate.uris.push(text()),
        tag if tag == context(TagNumber::N7, false) => {
            if let Ok(address) = <[u8; 4]>::try_from(bytes) {
                facts.addresses.push(address.into());
            } else if let Ok(address) = <[u8; 16]>::try_from(bytes) {
                facts.addresses.push(address.into());
            }
        }
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, PublicKeyData, SanType, string};

    use super::*;

    fn certificate() -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["a.x".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        let email = string::Ia5String::try_from("e@x").unwrap();
        let uri = string::Ia5String::try_from("spiffe://x/y").unwrap();
        params.subject_alt_names.push(SanType::Rfc822Name(email));
        params.subject_alt_names.push(SanType::URI(uri));
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(
            DnType::OrganizationName,
            DnValue::BmpString(string::BmpString::try_from("Öl").unwrap()),
        );
        name.push(
            DnType::CustomDnType(vec![0, 9, 2342, 19200300, 100, 1, 25]),
            "com",
        );
        name.push(DnType::CommonName, "cli");
        params.not_before = rcgen::date_time_ymd(2020, 1, 2);
        params.not_after = rcgen::date_time_ymd(2060, 1, 2);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().to_vec(), key)
    }

    #[test]
    fn names_key_and_times_are_found() {
        let (der, key) = certificate();
        let facts = read(&der).unwrap();
        assert_eq!(facts.certificate.dns, ["a.x"]);
        assert_eq!(facts.certificate.emails, ["e@x"]);
        assert_eq!(facts.certificate.uris, ["spiffe://x/y"]);
        assert_eq!(facts.addresses, [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(
            facts.certificate.full_subject,
            "CN=cli,O=Öl,0.9.2342.19200300.100.1.25=#0c03636f6d"
        );
        assert_eq!(
            facts.certificate.subject_with_domain.as_deref(),
            Some("CN=cli,O=Öl,DC=com")
        );
        let spki: [u8; 32] = Sha256::digest(key.subject_public_key_info()).into();
        assert_eq!(facts.key, spki);
        assert_eq!(
            (facts.not_before, facts.not_after),
            (1_577_923_200, 2_840_227_200)
        );
    }

    #[test]
    fn damaged_certificates_do_not_panic() {
        let (der, _) = certificate();
        for cut in 0..der.len() {
            assert!(read(&der[..cut]).is_none());
            let mut damaged = der.clone();
            damaged[cut] ^= 0x81;
            let _ = read(&damaged);
        }
    }
}
