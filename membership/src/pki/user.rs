//! What the certificate of an API user says. Who signed it is not looked at here.

use std::time::Duration;

use super::{PkiError, leaf};
use crate::id::{ClusterId, Label};

/// The content of a user's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Who it is.
    pub name: Label,
    /// Whose API it may use.
    pub cluster: ClusterId,
    /// Until when it is good, since 1970-01-01 UTC.
    pub not_after: Duration,
}

impl User {
    /// Reads a certificate in DER form.
    pub fn parse(der: &[u8]) -> Result<Self, PkiError> {
        let certificate = leaf::read(der)?;
        let (cluster, name) = spiffe_id(leaf::uri(&certificate)?)?;
        Ok(Self {
            name,
            cluster,
            not_after: leaf::since_epoch(certificate.validity().not_after.timestamp()),
        })
    }
}

fn spiffe_id(uri: &str) -> Result<(ClusterId, Label), PkiError> {
    let wrong = || PkiError::NotUser("its URI is not spiffe://CLUSTER/user/NAME");
    let rest = uri.strip_prefix("spiffe://").ok_or_else(wrong)?;
    let (cluster, name) = rest.split_once("/user/").ok_or_else(wrong)?;
    Ok((
        cluster.parse().map_err(|_| wrong())?,
        name.parse().map_err(|_| wrong())?,
    ))
}
