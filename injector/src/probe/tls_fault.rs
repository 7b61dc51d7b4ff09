//! Explains failures of TLS.

use rustls::{AlertDescription, CertificateError, Error};

/// The fault, in words that say which key of the config has to do with it.
pub(super) fn words(error: &Error) -> String {
    use CertificateError as Bad;
    match error {
        Error::InvalidCertificate(Bad::UnknownIssuer) => {
            "the server's certificate is by no authority that is trusted (ca)".to_owned()
        }
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "the server's certificate has expired".to_owned()
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "the server's certificate is not valid yet: compare the clocks".to_owned()
        }
        Error::InvalidCertificate(Bad::NotValidForName) => {
            "the server's certificate is for another name (server_name)".to_owned()
        }
        Error::InvalidCertificate(Bad::NotValidForNameContext { expected, presented }) => {
            let expected = expected.to_str();
            let presented = if presented.is_empty() { "no name".to_owned() } else { presented.join(", ") };
            format!("the server's certificate is not for {expected}, but for {presented} (server_name)")
        }
        Error::InvalidCertificate(error) => format!("the server's certificate is not valid ({error:?})"),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server asks for a client's certificate (cert, key)".to_owned()
        }
        Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied),
        ) => format!("the server does not accept the client's certificate ({alert:?})"),
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "the server refuses the handshake: it may ask for a client's certificate (cert, key)".to_owned()
        }
        Error::AlertReceived(alert) => format!("the server refuses the connection ({alert:?})"),
        Error::InvalidMessage(_) => "the server does not speak TLS".to_owned(),
        error => error.to_string(),
    }
}
