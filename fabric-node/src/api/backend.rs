//! What the API asks of the daemon. The routes know only this, so that they can be tested without a cluster.

use std::fmt;

use async_trait::async_trait;
use membership::id::Label;
use overlay::object::Kind;

use super::anchors::Anchors;
use super::ca::{Ca, CaRotate};
use super::changes::{Conflicts, Diff, History, Resolved, RolledBack};
use super::error::ApiError;
use super::moment::Moment;
use super::nodes::NodeRemoved;
use super::quarantine::{Quarantined, Released};
use super::types::{
    Applied, Apply, Attach, Attached, Deleted, Detached, Drop, Function, FunctionLoad, FunctionRemoved, Object, Peer,
    Status, Token, TokenRequest, UserCertificate, UserRequest,
};
use super::upgrade::Upgrade;
use super::version::{Precondition, Version};

/// Who asks. Shown as it is recorded with what is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Author {
    /// The user of this host at the other end of the socket.
    Local(String),
    /// Who holds a certificate that the cluster made for this name.
    Certified(Label),
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(name) => f.write_str(name),
            // A host may have a user of the same name.
            Self::Certified(name) => write!(f, "user:{name}"),
        }
    }
}

/// A long answer, piece by piece. Making a piece takes no time to speak of.
pub type Chunks = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// The daemon behind the API. Every method is bounded in time by its implementation or by the server's limit.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// This node, its cluster, its datapath.
    async fn status(&self) -> Result<Status, ApiError>;
    /// The other nodes, by name.
    async fn peers(&self) -> Result<Vec<Peer>, ApiError>;
    /// The drop counters that are not zero.
    async fn drops(&self) -> Result<Vec<Drop>, ApiError>;
    /// All that can be counted or measured, as OpenMetrics text.
    async fn metrics(&self) -> Result<String, ApiError>;
    /// The functions on this host, in the order in which they are asked.
    async fn functions(&self) -> Result<Vec<Function>, ApiError>;
    /// Loads a function on this host.
    async fn load_function(&self, author: &Author, load: FunctionLoad) -> Result<Function, ApiError>;
    /// Removes a function from this host.
    async fn remove_function(&self, author: &Author, domain: &Label, name: &Label)
    -> Result<FunctionRemoved, ApiError>;
    /// Objects of a kind in a domain, or, with `None`, in all of them; by domain and name.
    async fn list(&self, kind: Kind, domain: Option<&Label>) -> Result<Vec<Object>, ApiError>;
    /// One object; with `programmed`, the hosts that have it in force as well.
    async fn describe(&self, kind: Kind, domain: &Label, name: &Label, programmed: bool) -> Result<Object, ApiError>;
    /// Writes objects: all of a domain or nothing of it. `only_if` is asked of the one object there is then.
    async fn apply(&self, author: &Author, request: Apply, only_if: Option<Precondition>) -> Result<Applied, ApiError>;
    /// Deletes an object, if it is as asked.
    async fn delete(
        &self,
        author: &Author,
        kind: Kind,
        domain: &Label,
        name: &Label,
        cascade: bool,
        only_if: Option<Precondition>,
    ) -> Result<Deleted, ApiError>;
    /// Versions of a domain's objects, newest first, at most so many.
    async fn history(
        &self,
        domain: &Label,
        kind: Option<Kind>,
        name: Option<&Label>,
        limit: usize,
    ) -> Result<History, ApiError>;
    /// What a domain was at a moment, where that differs from what it is.
    async fn diff(&self, domain: &Label, at: Moment) -> Result<Diff, ApiError>;
    /// Writes the objects of a domain as they were at a moment; with `dry_run`, tells what that comes to.
    async fn rollback(
        &self,
        author: &Author,
        domain: &Label,
        to: Moment,
        dry_run: bool,
    ) -> Result<RolledBack, ApiError>;
    /// All objects of all domains as they are at this moment, as a file for `fabric-node init --restore`.
    async fn backup(&self) -> Result<Chunks, ApiError>;
    /// Objects whose versions disagree, of a domain or of all.
    async fn conflicts(&self, domain: Option<&Label>) -> Result<Conflicts, ApiError>;
    /// Settles a conflict by one of the versions.
    async fn resolve(
        &self,
        author: &Author,
        object: (Kind, &Label, &Label),
        take: Version,
        only_if: Option<Precondition>,
    ) -> Result<Resolved, ApiError>;
    /// Binds an endpoint to an interface or namespace of this host.
    async fn attach(&self, author: &Author, domain: &Label, name: &Label, how: Attach) -> Result<Attached, ApiError>;
    /// Undoes `attach` on this host.
    async fn detach(&self, author: &Author, domain: &Label, name: &Label) -> Result<Detached, ApiError>;
    /// Makes a join token.
    async fn token(&self, author: &Author, request: TokenRequest) -> Result<Token, ApiError>;
    /// The anchors.
    async fn anchors(&self) -> Result<Anchors, ApiError>;
    /// Makes the node of this name or id an anchor.
    async fn add_anchor(&self, author: &Author, node: &str) -> Result<Anchors, ApiError>;
    /// Makes the anchor of this name or id an ordinary node.
    async fn drop_anchor(&self, author: &Author, node: &str) -> Result<Anchors, ApiError>;
    /// The roots by which nodes and users are known.
    async fn ca(&self) -> Result<Ca, ApiError>;
    /// Begins, finishes or gives up their replacement.
    async fn rotate_ca(&self, author: &Author, asked: CaRotate) -> Result<Ca, ApiError>;
    /// Removes the node of this name or id from the cluster.
    async fn remove_node(&self, author: &Author, node: &str) -> Result<NodeRemoved, ApiError>;
    /// Has this node removed from the cluster.
    async fn leave(&self, author: &Author) -> Result<NodeRemoved, ApiError>;
    /// Domains that are left alone on this host because they crash what handles them.
    async fn quarantine(&self) -> Result<Vec<Quarantined>, ApiError>;
    /// Has such a domain handled again.
    async fn release(&self, author: &Author, domain: &Label) -> Result<Released, ApiError>;
    /// Who speaks which wire versions.
    async fn upgrade(&self) -> Result<Upgrade, ApiError>;
    /// Has the cluster agree on the next wire version.
    async fn finish_upgrade(&self, author: &Author) -> Result<Upgrade, ApiError>;
    /// Makes the certificate of an API user.
    async fn user(&self, author: &Author, name: &Label, request: UserRequest) -> Result<UserCertificate, ApiError>;
}
