//! Certificates made at run time: authorities, hubs, leafs and clients.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, date_time_ymd,
};

use super::TempDir;

/// An authority and a folder with what it has signed.
pub struct Pki {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    /// As options of a `tls` block.
    pub fn options(&self) -> String {
        format!(
            "cert_file: \"{}\", key_file: \"{}\"",
            self.cert.display(),
            self.key.display()
        )
    }
}

impl Pki {
    /// A new authority.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let dir = TempDir::new();
        dir.write("ca.pem", issuer.pem());
        Pki { dir, issuer }
    }

    /// The authority's certificate, as an option of a `tls` block.
    pub fn ca(&self) -> String {
        format!("ca_file: \"{}\"", self.ca_path().display())
    }

    /// The file of the authority's certificate.
    pub fn ca_path(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The authority's certificate as text, for bundles.
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// The folder that everything is in.
    pub fn dir(&self) -> &TempDir {
        &self.dir
    }

    /// A certificate for a server on this machine.
    pub fn server(&self, name: &str) -> Pair {
        self.sign(name, |params| {
            params.subject_alt_names = vec![
                SanType::DnsName("localhost".try_into().expect("a name")),
                SanType::IpAddress([127, 0, 0, 1].into()),
            ];
        })
    }

    /// A certificate with changed parameters.
    pub fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a signature");
        Pair {
            cert: self.dir.write(&format!("{name}.pem"), cert.pem()),
            key: self.dir.write(&format!("{name}.key"), key.serialize_pem()),
        }
    }

    /// A certificate that is over.
    pub fn expired(&self, name: &str) -> Pair {
        self.sign(name, |params| {
            params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// The SHA-256 of a certificate's public key in hex, as `pinned_certs` wants it.
    pub fn pin(&self, pair: &Pair) -> String {
        use sha2::{Digest, Sha256};
        let key = std::fs::read_to_string(&pair.key).expect("the key");
        let key = KeyPair::from_pem(&key).expect("a key");
        let digest = Sha256::digest(key.subject_public_key_info());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
