//! `/v1/ca`: from membership's words to the API's.

use membership::pki::{PkiError, fingerprint, to_pem};
use membership::service::{Root, RotateError};

use super::anchors;
use super::node::{Node, called};
use super::users::rfc3339;
use crate::api::ca::{Ca, CaRoot, CaRotate, CaStep};
use crate::api::error::ApiError;

/// The CA as this node has it.
pub(super) fn show(node: &Node) -> Result<Ca, ApiError> {
    let ca = node.membership.ca();
    let roots: Result<_, PkiError> = ca.roots.iter().map(root).collect();
    Ok(Ca {
        roots: roots.map_err(|error| ApiError::internal(error.to_string()))?,
        nodes: ca.members,
        pending: called(&ca.pending, &node.sight.names()),
    })
}

fn root(root: &Root) -> Result<CaRoot, PkiError> {
    Ok(CaRoot {
        fingerprint: fingerprint(&root.certificate),
        not_before: rfc3339(root.not_before),
        not_after: rfc3339(root.not_after),
        certificates: root.leaves,
        issues: root.issues,
        key_here: root.held,
        pem: to_pem(&root.certificate)?,
    })
}

/// Begins, finishes or gives up a rotation; the CA as it is then.
pub(super) async fn rotate(node: &Node, asked: &CaRotate) -> Result<Ca, ApiError> {
    let membership = &node.membership;
    let done = match asked.step {
        CaStep::Begin => membership.rotate_ca().await,
        CaStep::Finish => membership.finish_ca_rotation(asked.force).await.map(drop),
        CaStep::Cancel => membership.cancel_ca_rotation().await.map(drop),
    };
    done.map_err(|error| refusal(node, &error))?;
    show(node)
}

fn refusal(node: &Node, error: &RotateError) -> ApiError {
    let message = error.to_string();
    match error {
        RotateError::Decree(error) => anchors::refusal(node, error),
        RotateError::UnderWay | RotateError::NotUnderWay => ApiError::refused(message),
        RotateError::Pending(nodes) => {
            let names = called(nodes, &node.sight.names()).join(", ");
            ApiError::refused(format!(
                "{names} have no certificate of the latter root yet: start them, or remove those that are gone for good; or \
                 finish with --force, and they are cut off until an anchor gives them one when they come back"
            ))
        }
        RotateError::NotKept { .. } | RotateError::NoKey => ApiError::try_again(message),
        RotateError::Failed(_) => ApiError::internal(message),
    }
}
