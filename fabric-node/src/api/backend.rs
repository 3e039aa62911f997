//! What the API asks of the daemon. The routes know only this, so that they can be tested without a cluster.

use std::fmt;

use async_trait::async_trait;
use membership::id::Label;
use overlay::object::Kind;

use super::anchors::Anchors;
use super::error::ApiError;
use super::nodes::NodeRemoved;
use super::types::{
    Applied, Apply, Attach, Attached, Deleted, Detached, Drop, Function, FunctionLoad, FunctionRemoved, Object, Peer,
    Status, Token, TokenRequest, UserCertificate, UserRequest,
};

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
    /// Writes objects: all of a domain or nothing of it.
    async fn apply(&self, author: &Author, request: Apply) -> Result<Applied, ApiError>;
    /// Deletes an object.
    async fn delete(
        &self,
        author: &Author,
        kind: Kind,
        domain: &Label,
        name: &Label,
        cascade: bool,
    ) -> Result<Deleted, ApiError>;
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
    /// Removes the node of this name or id from the cluster.
    async fn remove_node(&self, author: &Author, node: &str) -> Result<NodeRemoved, ApiError>;
    /// Has this node removed from the cluster.
    async fn leave(&self, author: &Author) -> Result<NodeRemoved, ApiError>;
    /// Makes the certificate of an API user.
    async fn user(&self, author: &Author, name: &Label, request: UserRequest) -> Result<UserCertificate, ApiError>;
}
