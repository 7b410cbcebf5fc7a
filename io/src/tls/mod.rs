//! TLS below a stream: the machine above sees plaintext, one `Connected`, and a reason that a
//! person can act on.
//!
//! [`TlsConfig`] says whom to trust, and who we are to those that connect to us. The pump keeps a
//! [`Session`] for each stream that asked for TLS; it moves bytes between the socket and the
//! machine and holds no socket itself. There is no way to switch the checks off.
//!
//! Whom to trust is asked of the machine we run on (`SSL_CERT_FILE`, `SSL_CERT_DIR`, or where its
//! system keeps them), and read when TLS is first needed. A list of our own would be there in an
//! empty container too, but would be as old as the program, and deaf to whoever runs the machine.

mod reason;
mod session;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use teem_core::machine::TlsError;

pub(crate) use session::{LOAN_MAX, Session, Taken};

/// Certificates in one PEM file; more are refused.
pub const CERTIFICATES_MAX: usize = 1_000;

/// Why a PEM text is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// It is not PEM.
    #[error("not PEM: {0}")]
    Malformed(Box<str>),
    /// There is no certificate in it.
    #[error("no certificate in it")]
    NoCertificate,
    /// More than [`CERTIFICATES_MAX`].
    #[error("too many certificates in it")]
    TooMany,
    /// A certificate that nobody can be trusted by.
    #[error("not a certificate to trust: {0}")]
    BadCertificate(Box<str>),
    /// There is no private key in it.
    #[error("no private key in it")]
    NoKey,
    /// Certificate and key do not go together, or the key is of a kind that is not supported.
    #[error("the certificate and the key are of no use together: {0}")]
    BadIdentity(Box<str>),
}

/// Whom to trust, and who we are. Cheap to clone; clones share what was read.
#[derive(Clone, Debug, Default)]
pub struct TlsConfig {
    only_extra: bool,
    extra: Vec<CertificateDer<'static>>,
    client: Arc<OnceLock<Result<Arc<ClientConfig>, TlsError>>>,
    server: Option<Arc<ServerConfig>>,
}

impl TlsConfig {
    /// Trusts whom this machine trusts, and is nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts these too: certificates of authorities, as PEM.
    pub fn trust_pem(mut self, pem: &[u8]) -> Result<Self, PemError> {
        let certificates = certificates(pem)?;
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            let added = store.add(certificate.clone());
            added.map_err(|error| PemError::BadCertificate(text(&error)))?;
        }
        self.extra.extend(certificates);
        self.client = Arc::default();
        Ok(self)
    }

    /// Trusts only those of [`trust_pem`](Self::trust_pem), whatever this machine trusts.
    #[must_use]
    pub fn trust_no_others(mut self) -> Self {
        self.only_extra = true;
        self.client = Arc::default();
        self
    }

    /// Shows this certificate (with those between it and its authority behind it) to whoever
    /// connects to a listener with TLS, and holds its private key; both as PEM.
    pub fn identity_pem(mut self, chain: &[u8], key: &[u8]) -> Result<Self, PemError> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => PemError::NoKey,
            other => PemError::Malformed(text(&other)),
        })?;
        let bad = |error| PemError::BadIdentity(text(&error));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(bad)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(bad)?;
        // Whoever comes back comes back in half an hour: there is nothing to resume.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        self.server = Some(Arc::new(config));
        Ok(self)
    }

    /// Whether there is a certificate to show.
    pub const fn has_identity(&self) -> bool {
        self.server.is_some()
    }

    /// Our side of a stream to whoever must be `name`: a host name, or an address in writing, in
    /// brackets or not.
    pub(crate) fn connect(&self, name: &str) -> Result<Session, TlsError> {
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        let name = ServerName::try_from(bare).map_err(|_| TlsError::WrongName)?.to_owned();
        let config = self.client.get_or_init(|| self.make_client()).clone()?;
        let connection = ClientConnection::new(config, name);
        Ok(Session::new(connection.map_err(|error| reason::of(&error))?.into()))
    }

    /// Our side of a stream that somebody else began. None: we have no certificate.
    pub(crate) fn accept(&self) -> Option<Session> {
        let connection = ServerConnection::new(Arc::clone(self.server.as_ref()?)).ok()?;
        Some(Session::new(connection.into()))
    }

    fn make_client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut roots = RootCertStore::empty();
        if !self.only_extra {
            // Some that cannot be read do not harm the others.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        roots.add_parsable_certificates(self.extra.iter().cloned());
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| reason::of(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Nobody should know us again by it, and announces are too far apart to profit.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let mut all = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        all.push(certificate.map_err(|error| PemError::Malformed(text(&error)))?);
        if all.len() > CERTIFICATES_MAX {
            return Err(PemError::TooMany);
        }
    }
    if all.is_empty() { Err(PemError::NoCertificate) } else { Ok(all) }
}

fn text(error: &dyn std::fmt::Display) -> Box<str> {
    error.to_string().into()
}
