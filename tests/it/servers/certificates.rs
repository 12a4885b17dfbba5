//! Throw-away authorities and what they sign.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// The name in every good certificate, beside the loopback's address.
pub(super) const NAME: &str = "siem.example";

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

// === impl Authority ===

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes `<stem>.pem` and `<stem>.key`.
    pub(super) fn sign(&self, names: &[&str], expired: bool, folder: &Path, stem: &str) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, "holdfast test");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(if expired { 2021 } else { 2090 }, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        fs::write(folder.join(format!("{stem}.pem")), certificate.pem()).expect("write it");
        fs::write(folder.join(format!("{stem}.key")), key.serialize_pem()).expect("write it");
    }

    /// For the loopback and [`NAME`].
    pub(super) fn sign_good(&self, folder: &Path, stem: &str) {
        self.sign(&[NAME, "127.0.0.1"], false, folder, stem);
    }
}
