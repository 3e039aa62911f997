//! The running node as the API sees it: one [`Backend`] that hands each request to the file that does it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use membership::id::{Label, NodeId};
use membership::service::{Membership, TokenError};
use overlay::object::Kind;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::metrics::{Said, Work};
use super::paths::Paths;
use super::programmed::Waiter;
use super::quarantine::Quarantine;
use super::reconcile::{AskError, Handle};
use super::seen::Sight;
use super::{
    anchors, apply, attach, backup, ca, conflicts, delete, functions, history, objects, quarantined, report, rollback,
    upgrade, users,
};
use crate::api::anchors::Anchors;
use crate::api::backend::{Author, Backend, Chunks};
use crate::api::ca::{Ca, CaRotate};
use crate::api::changes::{Conflicts, Diff, History, Resolved, RolledBack};
use crate::api::error::ApiError;
use crate::api::moment::Moment;
use crate::api::nodes::NodeRemoved;
use crate::api::quarantine::{Quarantined, Released};
use crate::api::refusals::Refusals;
use crate::api::types::{
    Applied, Apply, Attach, Attached, Deleted, Detached, Drop, Function, FunctionLoad, FunctionRemoved, Object, Peer,
    Status, Token, TokenRequest, UserCertificate, UserRequest,
};
use crate::api::upgrade::Upgrade;
use crate::api::version::{Precondition, Version};
use crate::config::resolve::Addresses;

/// The running node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) membership: Membership,
    pub(super) sight: Sight,
    pub(super) reconcile: Handle,
    pub(super) paths: Paths,
    pub(super) addresses: Addresses,
    pub(super) tunnel_port: u16,
    /// Whom the API over TLS refused.
    pub(super) refusals: Arc<Refusals>,
    /// What bringing into force took.
    pub(super) work: Work,
    /// What crashes here.
    pub(super) quarantine: Quarantine,
    pub(super) started: Instant,
    /// One write at a time: what was checked must still hold when it is written.
    pub(super) writes: Mutex<()>,
}

impl Node {
    /// Waits for what is in force.
    pub(super) fn waiter(&self) -> Waiter {
        Waiter {
            membership: self.membership.clone(),
            sight: self.sight.clone(),
            reconcile: self.reconcile.clone(),
        }
    }

    /// This node's name.
    pub(super) fn name(&self) -> String {
        let here = self.membership.id();
        self.sight
            .names()
            .get(&here)
            .map_or_else(|| here.to_string(), ToString::to_string)
    }

    /// Who is recorded as the author of a write.
    pub(super) fn author(&self, author: &Author) -> String {
        format!("{author}@{}", self.name())
    }
}

#[async_trait]
impl Backend for Node {
    async fn status(&self) -> Result<Status, ApiError> {
        let (datapath, audits) = (self.reconcile.status().await?, self.reconcile.audits().await?);
        Ok(report::status(self, datapath, audits))
    }

    async fn peers(&self) -> Result<Vec<Peer>, ApiError> {
        Ok(report::all_peers(self))
    }

    async fn drops(&self) -> Result<Vec<Drop>, ApiError> {
        Ok(report::drops(self.reconcile.drops().await?))
    }

    async fn metrics(&self) -> Result<String, ApiError> {
        let (status, drops) = (self.status().await?, self.drops().await?);
        let said = Said {
            status,
            drops,
            peers: report::all_peers(self),
            records: self.sight.records(),
        };
        said.text(&self.work)
            .map_err(|error| ApiError::internal(error.to_string()))
    }

    async fn functions(&self) -> Result<Vec<Function>, ApiError> {
        functions::list(self).await
    }

    async fn load_function(&self, author: &Author, load: FunctionLoad) -> Result<Function, ApiError> {
        tracing::info!(%author, domain = %load.domain, function = %load.name, path = %load.path.display(), "load");
        functions::load(self, load).await
    }

    async fn remove_function(
        &self,
        author: &Author,
        domain: &Label,
        name: &Label,
    ) -> Result<FunctionRemoved, ApiError> {
        tracing::info!(%author, %domain, function = %name, "remove");
        functions::remove(self, domain, name).await
    }

    async fn list(&self, kind: Kind, domain: Option<&Label>) -> Result<Vec<Object>, ApiError> {
        objects::list(self, kind, domain)
    }

    async fn describe(&self, kind: Kind, domain: &Label, name: &Label, programmed: bool) -> Result<Object, ApiError> {
        objects::describe(self, kind, domain, name, programmed).await
    }

    async fn apply(&self, author: &Author, request: Apply, only_if: Option<Precondition>) -> Result<Applied, ApiError> {
        apply::apply(self, author, request, only_if).await
    }

    async fn delete(
        &self,
        author: &Author,
        kind: Kind,
        domain: &Label,
        name: &Label,
        cascade: bool,
        only_if: Option<Precondition>,
    ) -> Result<Deleted, ApiError> {
        let object = delete::Named { kind, domain, name };
        delete::delete(self, author, &object, cascade, only_if).await
    }

    async fn history(
        &self,
        domain: &Label,
        kind: Option<Kind>,
        name: Option<&Label>,
        limit: usize,
    ) -> Result<History, ApiError> {
        history::history(self, domain, (kind, name), limit).await
    }

    async fn diff(&self, domain: &Label, at: Moment) -> Result<Diff, ApiError> {
        history::diff(self, domain, &at).await
    }

    async fn rollback(
        &self,
        author: &Author,
        domain: &Label,
        to: Moment,
        dry_run: bool,
    ) -> Result<RolledBack, ApiError> {
        rollback::rollback(self, author, domain, &to, dry_run).await
    }

    async fn backup(&self) -> Result<Chunks, ApiError> {
        backup::backup(self)
    }

    async fn conflicts(&self, domain: Option<&Label>) -> Result<Conflicts, ApiError> {
        conflicts::list(self, domain).await
    }

    async fn resolve(
        &self,
        author: &Author,
        object: (Kind, &Label, &Label),
        take: Version,
        only_if: Option<Precondition>,
    ) -> Result<Resolved, ApiError> {
        conflicts::resolve(self, author, object, take, only_if).await
    }

    async fn attach(&self, author: &Author, domain: &Label, name: &Label, how: Attach) -> Result<Attached, ApiError> {
        tracing::info!(author = %author, %domain, endpoint = %name, "attach");
        attach::attach(self, domain, name, how).await
    }

    async fn detach(&self, author: &Author, domain: &Label, name: &Label) -> Result<Detached, ApiError> {
        tracing::info!(author = %author, %domain, endpoint = %name, "detach");
        attach::detach(self, domain, name).await
    }

    async fn token(&self, author: &Author, request: TokenRequest) -> Result<Token, ApiError> {
        let ttl = std::time::Duration::from_secs(request.ttl_s);
        tracing::info!(author = %author, uses = request.uses, ttl_s = request.ttl_s, "a join token is made");
        let made = self.membership.create_token(request.uses, ttl).await;
        let token = made.map_err(|error| no_token(&error, &self.sight.names()))?;
        Ok(Token { token })
    }

    async fn anchors(&self) -> Result<Anchors, ApiError> {
        Ok(anchors::list(self))
    }

    async fn add_anchor(&self, author: &Author, node: &str) -> Result<Anchors, ApiError> {
        tracing::info!(%author, node, "add an anchor");
        anchors::add(self, node).await
    }

    async fn drop_anchor(&self, author: &Author, node: &str) -> Result<Anchors, ApiError> {
        tracing::info!(%author, node, "remove an anchor");
        anchors::remove(self, node).await
    }

    async fn ca(&self) -> Result<Ca, ApiError> {
        ca::show(self)
    }

    async fn rotate_ca(&self, author: &Author, asked: CaRotate) -> Result<Ca, ApiError> {
        tracing::info!(%author, step = ?asked.step, force = asked.force, "rotate the CA");
        ca::rotate(self, &asked).await
    }

    async fn remove_node(&self, author: &Author, node: &str) -> Result<NodeRemoved, ApiError> {
        tracing::info!(%author, node, "remove a node");
        anchors::remove_node(self, node).await
    }

    async fn leave(&self, author: &Author) -> Result<NodeRemoved, ApiError> {
        tracing::info!(%author, "leave the cluster");
        anchors::leave(self).await
    }

    async fn quarantine(&self) -> Result<Vec<Quarantined>, ApiError> {
        Ok(quarantined::list(self))
    }

    async fn release(&self, author: &Author, domain: &Label) -> Result<Released, ApiError> {
        tracing::info!(%author, %domain, "release from quarantine");
        quarantined::release(self, domain)
    }

    async fn upgrade(&self) -> Result<Upgrade, ApiError> {
        Ok(upgrade::show(self))
    }

    async fn finish_upgrade(&self, author: &Author) -> Result<Upgrade, ApiError> {
        tracing::info!(%author, "agree on the next wire version");
        upgrade::finish(self).await
    }

    async fn user(&self, author: &Author, name: &Label, request: UserRequest) -> Result<UserCertificate, ApiError> {
        let made = users::issue(self, name, &request)?;
        tracing::info!(%author, user = %name, until = %made.not_after, "a user's certificate was made");
        Ok(made)
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Busy => Self::try_again(error.to_string()),
            AskError::Datapath(_) => Self::internal(error.to_string()),
        }
    }
}

fn no_token(error: &TokenError, names: &BTreeMap<NodeId, Label>) -> ApiError {
    match error {
        TokenError::NotAnchor(anchors) => {
            let anchors = called(anchors, names).join(", ");
            ApiError::refused(format!("{error}: run it on the host of {anchors}"))
        }
        TokenError::NoKey => ApiError::try_again(error.to_string()),
        TokenError::Store(_) => ApiError::internal(error.to_string()),
        TokenError::Invalid(_) => ApiError::bad_request(error.to_string()),
    }
}

/// The names of nodes; the id of one whose name is not known here.
pub(super) fn called(nodes: &[NodeId], names: &BTreeMap<NodeId, Label>) -> Vec<String> {
    let name = |node: &NodeId| names.get(node).map_or_else(|| node.to_string(), ToString::to_string);
    nodes.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_tokens_is_told_by_name() {
        let (known, unknown) = (NodeId::of_key(&[1; 32]), NodeId::of_key(&[2; 32]));
        let names = [(known, "h1".parse().expect("a label"))].into();
        let error = no_token(&TokenError::NotAnchor(vec![known, unknown]), &names);
        assert_eq!(
            error.message,
            format!("only an anchor can make tokens: run it on the host of h1, {unknown}")
        );
    }
}
