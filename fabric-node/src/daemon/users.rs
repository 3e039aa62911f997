//! `POST /v1/users`: a certificate with which a person may use the API of every node.

use std::time::Duration;

use membership::id::{Label, NodeId};
use membership::pki::{PkiError, to_pem};
use membership::service::UserError;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::node::{Node, called};
use crate::api::error::ApiError;
use crate::api::types::{UserCertificate, UserRequest};

/// Makes it, if this node holds the key for that.
pub(super) fn issue(node: &Node, name: &Label, request: &UserRequest) -> Result<UserCertificate, ApiError> {
    let life = Duration::from_secs(request.ttl_s);
    let issued = node.membership.issue_user(name, &request.request, life);
    let issued = issued.map_err(|error| match error {
        UserError::NotAnchor(anchors) => elsewhere(node, &anchors),
        UserError::Invalid(error) => ApiError::bad_request(error.to_string()),
        UserError::Failed(error) => ApiError::internal(error.to_string()),
    })?;
    let roots: Result<String, PkiError> = issued.roots.iter().map(|root| to_pem(root)).collect();
    let failed = |error: PkiError| ApiError::internal(error.to_string());
    Ok(UserCertificate {
        name: name.to_string(),
        not_after: rfc3339(issued.not_after),
        certificate: to_pem(&issued.certificate).map_err(failed)?,
        roots: roots.map_err(failed)?,
    })
}

fn elsewhere(node: &Node, anchors: &[NodeId]) -> ApiError {
    let anchors = called(anchors, &node.sight.names()).join(", ");
    ApiError::refused(format!(
        "this node does not hold the cluster's CA key: run it on the host of {anchors}"
    ))
}

/// A time since 1970-01-01 UTC as it is written (RFC 3339).
pub(super) fn rfc3339(since_epoch: Duration) -> String {
    let seconds = i64::try_from(since_epoch.as_secs()).ok();
    let time = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{} s", since_epoch.as_secs()))
}
