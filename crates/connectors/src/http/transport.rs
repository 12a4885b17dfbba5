//! Why a request got no answer, told from the types of the errors, never from their texts.
//!
//! What decides is whether a byte of the request can have left: before that nothing was sent and
//! a lane may try again freely; after it the effect is in doubt
//! (`reference`: the ambiguous-outcome rule).

use std::{error::Error, io};

use holdfast_model::{DeliveryError, Reason};
use rustls::{AlertDescription, CertificateError};

use super::egress::Forbidden;

/// What a person can do about a handshake that will always fail.
#[derive(Debug, thiserror::Error)]
#[error("{advice}")]
struct Advised {
    advice: &'static str,
    source: reqwest::Error,
}

/// Turns a failed exchange into the reason a lane acts on. The address is cut out of the error,
/// because it may hold a token.
pub(super) fn failure(error: reqwest::Error) -> DeliveryError {
    let reason = reason(&error);
    let advice = causes(&error).find_map(|cause| cause.downcast_ref()).and_then(advice);
    let error = error.without_url();
    match advice {
        Some(advice) => DeliveryError::caused_by(reason, Advised { advice, source: error }),
        None => DeliveryError::caused_by(reason, error),
    }
}

fn advice(error: &rustls::Error) -> Option<&'static str> {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        UnknownIssuer,
    };
    match error {
        rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
            Some("the receiver's certificate is signed by nobody we trust; give its CA as `tls.ca`")
        }
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
            Some("the receiver's certificate has expired")
        }
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            Some("the receiver's certificate is for another name")
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            Some("the receiver wants a certificate of ours; give `tls.cert` and `tls.key`")
        }
        rustls::Error::AlertReceived(_) if is_permanent(error) => {
            Some("the receiver does not take our certificate; look at `tls.cert`")
        }
        _ => None,
    }
}

fn reason(error: &reqwest::Error) -> Reason {
    if causes(error).any(|cause| cause.is::<Forbidden>()) {
        return Reason::Misconfigured;
    }
    let tls = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>());
    if tls.is_some_and(is_permanent) {
        // Also after the handshake: in TLS 1.3 a server's word about our own certificate arrives
        // with the first read. It never looks at a request then.
        return Reason::Misconfigured;
    }
    if error.is_builder() {
        return Reason::Misconfigured;
    }
    if error.is_dns() {
        return Reason::Dns;
    }
    if !error.is_connect() {
        return Reason::InDoubt;
    }
    // connect(2) never ends in this; a peer that hangs up during the handshake does.
    let hung_up = causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::UnexpectedEof);
    if tls.is_some() || hung_up { Reason::Tls } else { Reason::Connect }
}

/// What a failed TLS handshake of another protocol than HTTP means; `None` when TLS is not the cause.
pub(crate) fn tls_reason(error: &(dyn Error + 'static)) -> Option<Reason> {
    let error = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>())?;
    Some(if is_permanent(error) { Reason::Misconfigured } else { Reason::Tls })
}

/// Whether every later handshake would fail the same way.
pub(crate) fn is_permanent(error: &rustls::Error) -> bool {
    match error {
        // Not trusted, expired, for another name.
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => true,
        rustls::Error::AlertReceived(alert) => matches!(
            alert,
            AlertDescription::AccessDenied
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRequired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::UnsupportedCertificate
        ),
        // The type is open. Whatever is not known to last is tried again.
        _ => false,
    }
}

/// An error and everything beneath it.
///
/// `io::Error::source` skips the error it was made from, and that is where rustls hides.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use rustls::{CertificateError, InvalidMessage};

    use super::*;

    #[test]
    fn a_certificate_problem_lasts_and_a_broken_handshake_does_not() {
        #[rustfmt::skip]
        let table = [
            (rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer), true),
            (rustls::Error::InvalidCertificate(CertificateError::Expired), true),
            (rustls::Error::InvalidCertificate(CertificateError::NotValidForName), true),
            (rustls::Error::AlertReceived(AlertDescription::CertificateRequired), true),
            (rustls::Error::AlertReceived(AlertDescription::UnknownCA), true),
            (rustls::Error::AlertReceived(AlertDescription::InternalError), false),
            (rustls::Error::AlertReceived(AlertDescription::HandshakeFailure), false),
            (rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType), false),
            (rustls::Error::HandshakeNotComplete, false),
        ];
        for (error, lasts) in table {
            assert_eq!(is_permanent(&error), lasts, "{error}");
        }
    }

    #[test]
    fn a_cause_inside_an_io_error_is_found() {
        let hidden = rustls::Error::HandshakeNotComplete;
        let outer = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, hidden.clone()));
        let found = causes(&outer).find_map(|cause| cause.downcast_ref::<rustls::Error>());
        assert_eq!(found, Some(&hidden));
    }
}
