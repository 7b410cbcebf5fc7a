//! A certificate authority of one cell, and the certificate of its tracker.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

use crate::Failure;

/// Where the files of an authority are, all of them PEM.
#[derive(Debug)]
pub(crate) struct Authority {
    /// Whom clients must trust.
    pub(crate) ca: PathBuf,
    /// The tracker's certificate.
    pub(crate) cert: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes an authority, and a certificate for `address`, in `folder`.
    pub(crate) fn make(folder: &Path, address: IpAddr) -> Result<Self, Failure> {
        let made = pems(address)
            .map_err(|error| Failure::io("making certificates")(std::io::Error::other(error)))?;
        let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| folder.join(name));
        for (path, text) in [&ca, &cert, &key].into_iter().zip(made) {
            fs::write(path, text).map_err(Failure::io("writing certificates"))?;
        }
        Ok(Self { ca, cert, key })
    }
}

fn pems(address: IpAddr) -> Result<[String; 3], rcgen::Error> {
    let ca_key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.subject_alt_names.push(SanType::IpAddress(address));
    // OpenSSL takes a name that is nobody's for the issuer's.
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "the tracker of a test");
    let cert = params.signed_by(&key, &issuer)?.pem();
    Ok([ca, cert, key.serialize_pem()])
}
