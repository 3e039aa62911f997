//! How the API over TLS proves this node to users, as the certificate is renewed and roots come and go.

use std::sync::Arc;

use membership::pki::PkiError;
use membership::service::Membership;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::https::Credentials;

/// The credentials of the moment, from here on until `stop`.
pub(super) fn follow(
    membership: &Membership,
    stop: CancellationToken,
) -> Result<watch::Receiver<Credentials>, PkiError> {
    let mut changes = membership.credentials_changed();
    changes.mark_unchanged();
    let (sender, receiver) = watch::channel(now(membership)?);
    let membership = membership.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
            match now(&membership) {
                Ok(credentials) => drop(sender.send_replace(credentials)),
                Err(error) => tracing::error!("the API goes on with the certificate that it had: {error}"),
            }
        }
    });
    Ok(receiver)
}

fn now(membership: &Membership) -> Result<Credentials, PkiError> {
    let (tls, roots) = membership.api_tls()?;
    Ok(Credentials {
        tls: Arc::new(tls),
        roots,
    })
}
