//! What rustls says, in the contract's words.

use rustls::{CertificateError, Error};
use teem_core::machine::TlsError;

/// Why a handshake failed, or a stream broke.
pub(super) fn of(error: &Error) -> TlsError {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(_) => TlsError::Refused,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => TlsError::Incompatible,
        Error::InvalidMessage(_) => TlsError::NotTls,
        Error::NoCertificatesPresented => TlsError::BadCertificate,
        _ => TlsError::Other,
    }
}

fn of_certificate(error: &CertificateError) -> TlsError {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => TlsError::Expired,
        E::NotValidYet | E::NotValidYetContext { .. } => TlsError::NotYetValid,
        E::Revoked => TlsError::Revoked,
        // A wrong signature is that of an authority that has the name of one that is trusted.
        E::UnknownIssuer | E::BadSignature => TlsError::UnknownIssuer,
        E::NotValidForName | E::NotValidForNameContext { .. } => TlsError::WrongName,
        _ => TlsError::BadCertificate,
    }
}
