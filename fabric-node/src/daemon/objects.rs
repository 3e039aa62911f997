//! Objects with what is known of them, for `get` and `describe`.

use std::collections::BTreeMap;
use std::time::Duration;

use membership::hlc::Stamp;
use membership::id::{Label, NodeId, Scope};
use membership::record::{Fact, Key};
use membership::replica::Siblings;
use membership::service::{Mark, Member};
use overlay::compile::networks;
use overlay::forwarding::Segment;
use overlay::object::{Kind, Spec};
use overlay::view::View;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use super::binding;
use super::force::Force;
use super::node::Node;
use super::report::state;
use super::version;
use crate::api::error::ApiError;
use crate::api::types::{Attachment, Condition, Object, ObjectStatus, PeerState};

/// How long `describe` waits for the hosts.
const ASK_MAX: Duration = Duration::from_secs(1);

/// Objects of a kind, by domain and name.
pub(super) fn list(node: &Node, kind: Kind, domain: Option<&Label>) -> Result<Vec<Object>, ApiError> {
    let domains: Vec<Label> = match domain {
        Some(domain) => vec![domain.clone()],
        None => node.sight.domains().into_iter().collect(),
    };
    let reader = Reader::new(node);
    let mut objects = Vec::new();
    for name in &domains {
        match reader.domain(name) {
            Some(view) => objects.extend(reader.objects(name, &view, kind, None)),
            None if domain.is_some() => return Err(no_domain(name)),
            None => {}
        }
    }
    Ok(objects)
}

/// One object; with `programmed`, asks the hosts.
pub(super) async fn describe(
    node: &Node,
    kind: Kind,
    domain: &Label,
    name: &Label,
    programmed: bool,
) -> Result<Object, ApiError> {
    let reader = Reader::new(node);
    let view = reader.domain(domain).ok_or_else(|| no_domain(domain))?;
    let found = reader.objects(domain, &view, kind, Some(name)).pop();
    let mut object = found.ok_or_else(|| missing(kind, domain, name))?;
    if programmed {
        let marks = marks(node, kind, domain, name);
        let waiter = node.waiter();
        let hosts = waiter.hosts(domain);
        object.status.programmed = Some(waiter.everywhere(&marks, &hosts, Instant::now() + ASK_MAX).await);
    }
    Ok(object)
}

/// One object as it is at this moment, if it is there.
pub(super) fn find(node: &Node, kind: Kind, domain: &Label, name: &Label) -> Option<Object> {
    let reader = Reader::new(node);
    let view = reader.domain(domain)?;
    reader.objects(domain, &view, kind, Some(name)).pop()
}

/// What an object is called, as `Network red/front`.
pub(super) fn title(kind: Kind, domain: &Label, name: &Label) -> String {
    match kind {
        Kind::Domain => format!("Domain {name}"),
        Kind::Network | Kind::Endpoint | Kind::Router | Kind::SecurityPolicy => format!("{kind} {domain}/{name}"),
    }
}

/// What to say about an object that is not there.
pub(super) fn missing(kind: Kind, domain: &Label, name: &Label) -> ApiError {
    match kind {
        Kind::Domain => no_domain(name),
        Kind::Network | Kind::Endpoint | Kind::Router | Kind::SecurityPolicy => ApiError::not_found(format!(
            "there is no {kind} {name} in domain {domain}; create it with `fabricctl apply`"
        )),
    }
}

/// What to say about a domain that is not there.
pub(super) fn no_domain(domain: &Label) -> ApiError {
    ApiError::not_found(format!("there is no domain {domain}; create it with `fabricctl apply`"))
}

/// Names an object's versions, and an endpoint's attachment, as they are here.
fn marks(node: &Node, kind: Kind, domain: &Label, name: &Label) -> Vec<Mark> {
    let scope = Scope::Domain(domain.clone());
    let mut marks = vec![node.sight.versions(&scope, [kind.key(name)])];
    if kind == Kind::Endpoint {
        let attachment = overlay::fact::Attachment::key(name);
        marks.extend(node.membership.read(|replica| {
            let said = replica.facts(&scope).filter(|fact| fact.key == attachment);
            let mark = |fact: &Fact| Mark::Facts {
                origin: fact.origin,
                scope: scope.clone(),
                epoch: fact.epoch,
                seq: fact.seq,
            };
            said.map(mark).collect::<Vec<Mark>>()
        }));
    }
    marks
}

/// What is needed to tell about objects, read once.
struct Reader<'a> {
    node: &'a Node,
    members: BTreeMap<NodeId, Member>,
    force: Force,
}

impl<'a> Reader<'a> {
    fn new(node: &'a Node) -> Self {
        let members = node
            .membership
            .members()
            .into_iter()
            .map(|member| (member.id, member))
            .collect();
        Self {
            node,
            members,
            force: node.reconcile.force().borrow().clone(),
        }
    }

    fn domain(&self, name: &Label) -> Option<View> {
        self.node.sight.read(name).view
    }

    fn objects(&self, domain: &Label, view: &View, kind: Kind, only: Option<&Label>) -> Vec<Object> {
        let scope = Scope::Domain(domain.clone());
        let segments = match kind {
            Kind::Network => networks(view),
            Kind::Domain | Kind::Endpoint | Kind::Router | Kind::SecurityPolicy => BTreeMap::new(),
        };
        self.node.membership.read(|replica| {
            let object = |(key, versions): (&Key, &Siblings)| {
                let (found, name) = Kind::of_key(key)?;
                if found != kind || only.is_some_and(|only| *only != name) {
                    return None;
                }
                self.object(view, (kind, &name), versions, segments.get(&name))
            };
            replica.intents(&scope).filter_map(object).collect()
        })
    }

    /// `segment` is a network's. None for a deleted object.
    fn object(
        &self,
        view: &View,
        (kind, name): (Kind, &Label),
        versions: &Siblings,
        segment: Option<&Segment>,
    ) -> Option<Object> {
        let shown = versions.shown();
        let body = shown.body.as_ref()?;
        let spec = match Spec::decode(kind, body) {
            Ok(spec) => serde_json::to_value(&spec).unwrap_or_default(),
            Err(_) => serde_json::Value::Null,
        };
        let endpoint = view.endpoints.get(name).filter(|_| kind == Kind::Endpoint);
        let attachment = endpoint.and_then(|seen| seen.attachment.as_ref());
        let status = ObjectStatus {
            stamp: rfc3339(shown.stamp),
            author: shown.author.to_string(),
            versions: versions.all().count(),
            conditions: self.conditions(&view.domain, kind, name),
            addresses: endpoint
                .into_iter()
                .flat_map(|seen| seen.addresses())
                .map(|ip| ip.to_string())
                .collect(),
            attachment: attachment.map(|(node, said)| self.attachment(*node, said)),
            vni: segment.map(|segment| segment.vni.get()),
            mtu: segment.map(|segment| segment.mtu),
            programmed: None,
        };
        Some(Object {
            kind: kind.to_string(),
            domain: view.domain.to_string(),
            name: name.to_string(),
            version: version::of(versions),
            spec,
            status,
        })
    }

    fn attachment(&self, node: NodeId, said: &overlay::fact::Attachment) -> Attachment {
        let member = self.members.get(&node);
        Attachment {
            node: node.to_string(),
            name: member.map_or_else(|| node.to_string(), |member| member.record.name.to_string()),
            state: member.map_or(PeerState::Dead, |member| state(member.liveness)),
            counter: said.counter,
            binding: binding::describe(&said.binding),
        }
    }

    fn conditions(&self, domain: &Label, kind: Kind, name: &Label) -> Vec<Condition> {
        let Some(in_force) = self.force.domains.get(domain) else {
            return Vec::new();
        };
        let known = in_force.conditions.get(&(kind, name.to_string())).into_iter().flatten();
        let known = known.map(|it| Condition {
            reason: it.reason.to_owned(),
            message: it.message.clone().into_owned(),
        });
        let port = in_force.ports.get(name).filter(|_| kind == Kind::Endpoint);
        let waiting = port.and_then(|port| match port {
            datapath::PortState::Waiting(why) => Some(Condition {
                reason: "PortWaiting".to_owned(),
                message: why.clone(),
            }),
            datapath::PortState::Programmed { .. } => None,
        });
        known.chain(waiting).collect()
    }
}

/// A stamp as people read it.
pub(super) fn rfc3339(stamp: Stamp) -> String {
    let nanos = i128::from(stamp.millis) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    time.and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{} ms", stamp.millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_shown_as_rfc_3339() {
        assert_eq!(
            rfc3339(Stamp {
                millis: 1_700_000_000_250,
                logical: 3
            }),
            "2023-11-14T22:13:20.25Z"
        );
        assert_eq!(
            rfc3339(Stamp {
                millis: u64::MAX,
                logical: 0
            }),
            format!("{} ms", u64::MAX)
        );
    }
}
