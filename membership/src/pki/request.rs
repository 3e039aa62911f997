//! Requests for a user's certificate (PKCS #10, RFC 2986), by which the private key stays where it was made. Of a request
//! only the key counts, and that its holder signed: what the certificate says is for the authority to decide.

use rcgen::{CertificateParams, CertificateSigningRequestParams, PKCS_ED25519, PublicKeyData as _};

use super::authority::{Raw, named};
use super::{PkiError, armoured};
use crate::id::Label;
use crate::identity::NodeKey;

/// Longest request that is read, in bytes.
const REQUEST_MAX: usize = 16 * 1024;

/// A request as PEM.
pub fn make(key: &NodeKey, name: &Label) -> Result<String, PkiError> {
    let failed = |error: rcgen::Error| PkiError::Issue(error.to_string());
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name.to_string());
    let request = params.serialize_request(&Raw(key)).map_err(failed)?;
    armoured("CERTIFICATE REQUEST", request.der())
}

/// The Ed25519 key that a request (PEM) was made for, if its holder signed it.
pub fn public_key(pem: &str) -> Result<[u8; 32], PkiError> {
    if pem.len() > REQUEST_MAX {
        return Err(PkiError::Request(format!("larger than {REQUEST_MAX} bytes")));
    }
    let request =
        CertificateSigningRequestParams::from_pem(pem).map_err(|error| PkiError::Request(error.to_string()))?;
    let key = &request.public_key;
    if *key.algorithm() != PKCS_ED25519 {
        return Err(PkiError::Request("its key is of another kind".to_owned()));
    }
    let wrong = |_| PkiError::Request("its key has a wrong length".to_owned());
    key.der_bytes().try_into().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gives_the_key_of_who_signed_it() {
        let (key, name) = (NodeKey::from_seed(&[1; 32]), "alice".parse().unwrap());
        let request = make(&key, &name).unwrap();
        assert_eq!(public_key(&request), Ok(key.public()));
        // Another one's key put into it.
        let other = make(&NodeKey::from_seed(&[2; 32]), &name).unwrap();
        let forged = splice(&request, &other, &key.public());
        assert!(matches!(public_key(&forged), Err(PkiError::Request(_))));
        for junk in [
            "",
            "alice",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        ] {
            assert!(matches!(public_key(junk), Err(PkiError::Request(_))), "{junk}");
        }
        assert!(matches!(
            public_key(&"x".repeat(REQUEST_MAX + 1)),
            Err(PkiError::Request(_))
        ));
    }

    /// `other` with the key of `request` in place of its own.
    fn splice(request: &str, other: &str, mine: &[u8; 32]) -> String {
        use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject as _};
        let der = |pem: &str| CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (request, mut forged) = (der(request), der(other).to_vec());
        let at = request.windows(32).position(|window| window == mine).unwrap();
        forged[at..at + 32].copy_from_slice(mine);
        armoured("CERTIFICATE REQUEST", &forged).unwrap()
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        assert!(matches!(public_key(&request.pem().unwrap()), Err(PkiError::Request(why)) if why.contains("kind")));
    }
}
