//! `attach` and `detach`: this host's word about an endpoint, and waiting until it is heard.

use std::net::IpAddr;
use std::time::Duration;

use datapath::PortState;
use ipnet::Ipv4Net;
use membership::claim::ClaimError;
use membership::id::{Label, Scope};
use membership::service::{FactWrite, Mark, WriteError};
use overlay::address::claim_key;
use overlay::fact::{AddressClaim, Attachment, Binding, Content, FactError};
use overlay::object::Kind;
use overlay::view::{SeenEndpoint, View};
use tokio::time::Instant;

use super::binding;
use super::force::{Force, Target};
use super::moves::{self, Next};
use super::node::Node;
use super::objects::{missing, no_domain};
use crate::api::error::{ApiError, Code};
use crate::api::types::{Attach, Attached, Detached};

/// How long the own datapath may take to take up the workload.
const HERE_MAX: Duration = Duration::from_secs(10);
/// How long it may stay not ready after it was tried.
const SETTLE_MAX: Duration = Duration::from_secs(2);
/// How long the other hosts are waited for.
const OTHERS_MAX: Duration = Duration::from_secs(1);
/// Addresses that are asked for in one subnet before it is given up.
const CLAIMS_MAX: usize = 64;

/// Binds an endpoint to an interface or namespace of this host.
pub(super) async fn attach(node: &Node, domain: &Label, name: &Label, how: Attach) -> Result<Attached, ApiError> {
    let binding = binding::of(how)?;
    fits(node, domain, name, &binding).await?;
    let said = say(node, domain, name, binding).await?;
    let asked = Instant::now();
    let port = match local_port(node, domain, name, asked + HERE_MAX).await {
        Ok(port) => port,
        Err(error) => {
            take_back(node, domain, name, &said).await?;
            return Err(error);
        }
    };
    let mut warnings: Vec<String> = said.moved.into_iter().collect();
    warnings.extend(confirmed(node, domain, &said.marks, asked + OTHERS_MAX).await);
    let view = node.sight.read(domain).view.ok_or_else(|| no_domain(domain))?;
    let seen = view
        .endpoints
        .get(name)
        .ok_or_else(|| missing(Kind::Endpoint, domain, name))?;
    Ok(Attached {
        domain: domain.to_string(),
        endpoint: name.to_string(),
        node: node.name(),
        interface: port,
        mac: seen.spec.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        addresses: addresses(&view, seen),
        warnings,
    })
}

/// Takes this host's word back.
pub(super) async fn detach(node: &Node, domain: &Label, name: &Label) -> Result<Detached, ApiError> {
    let turn = node.writes.lock().await;
    let seen = node.sight.read(domain);
    let key = Attachment::key(name);
    let here = node.membership.id();
    let scope = Scope::Domain(domain.clone());
    let was_attached = node
        .membership
        .read(|replica| replica.fact(&scope, here, &key).is_some());
    if was_attached {
        let write = FactWrite { key, body: None };
        let mark = node.membership.write_facts(scope, vec![write]).await?;
        drop(turn);
        let done = node.waiter().here(&[mark], Instant::now() + HERE_MAX).await;
        if !done {
            return Err(ApiError::try_again(
                "withdrawn, but its interface is not detached yet; see `fabricctl status`",
            ));
        }
        return Ok(Detached {
            domain: domain.to_string(),
            endpoint: name.to_string(),
            was_attached,
        });
    }
    let view = seen.view.ok_or_else(|| no_domain(domain))?;
    let endpoint = view
        .endpoints
        .get(name)
        .ok_or_else(|| missing(Kind::Endpoint, domain, name))?;
    match &endpoint.attachment {
        Some((host, _)) => {
            let host = node
                .sight
                .names()
                .get(host)
                .map_or_else(|| host.to_string(), ToString::to_string);
            Err(ApiError::refused(format!(
                "{domain}/{name} is attached on {host}; detach it there"
            )))
        }
        None => Ok(Detached {
            domain: domain.to_string(),
            endpoint: name.to_string(),
            was_attached,
        }),
    }
}

/// What this host said.
struct Said {
    marks: Vec<Mark>,
    /// The attachment, if it was said by this attach.
    attachment: Option<Attachment>,
    /// What stood in its place, if it was this host's.
    before: Option<Attachment>,
    /// From where it was moved, for people.
    moved: Option<String>,
}

/// An attach that failed leaves the endpoint as it was: detached, or with the workload that it had.
async fn take_back(node: &Node, domain: &Label, name: &Label, said: &Said) -> Result<(), ApiError> {
    let Some(failed) = &said.attachment else {
        return Ok(());
    };
    let turn = node.writes.lock().await;
    let (scope, key) = (Scope::Domain(domain.clone()), Attachment::key(name));
    let here = node.membership.id();
    let stands = node.membership.read(|replica| {
        let fact = replica.fact(&scope, here, &key)?;
        Attachment::decode(fact.body.as_ref()?).ok()
    });
    if stands.as_ref() != Some(failed) {
        // Another attach, a detach or a delete came in between and has the last word.
        return Ok(());
    }
    let body = said
        .before
        .as_ref()
        .map(|before| moves::back(before, failed).encode())
        .transpose()?;
    let mark = node
        .membership
        .write_facts(scope, vec![FactWrite { key, body }])
        .await?;
    drop(turn);
    if !node.waiter().here(&[mark], Instant::now() + HERE_MAX).await {
        tracing::warn!(%domain, endpoint = %name, "a failed attach is taken back, but not in force yet");
    }
    Ok(())
}

/// Asks the datapath before an endpoint is moved here: with the word of this host said, the other host lets its workload
/// go, and a move that fails would leave it nowhere.
async fn fits(node: &Node, domain: &Label, name: &Label, binding: &Binding) -> Result<(), ApiError> {
    let view = node.sight.read(domain).view.ok_or_else(|| no_domain(domain))?;
    let attachment = view.endpoints.get(name).and_then(|seen| seen.attachment.as_ref());
    if attachment.is_none_or(|(host, _)| *host == node.membership.id()) {
        return Ok(());
    }
    // What was taken back here a moment ago may still be in the way.
    let target = node.waiter().target(domain);
    let mut force = node.reconcile.force();
    let obeyed = force.wait_for(|force| force.reached(domain, target));
    if tokio::time::timeout(SETTLE_MAX, obeyed).await.is_err() {
        tracing::debug!(%domain, endpoint = %name, "moved here while the datapath is behind");
    }
    match node.reconcile.check(domain, name, binding).await? {
        None => Ok(()),
        Some(why) => Err(ApiError::refused(format!(
            "{domain}/{name} cannot move here and stays where it is: {why}"
        ))),
    }
}

/// Checks that the endpoint may be here, gets its addresses and says so.
async fn say(node: &Node, domain: &Label, name: &Label, binding: Binding) -> Result<Said, ApiError> {
    let _turn = node.writes.lock().await;
    let view = node.sight.read(domain).view.ok_or_else(|| no_domain(domain))?;
    let seen = view
        .endpoints
        .get(name)
        .ok_or_else(|| missing(Kind::Endpoint, domain, name))?;
    allowed(node, domain, name, seen)?;
    free(&view, name, node.membership.id(), &binding)?;
    let mut writes = claims(node, domain, name, &view).await?;
    let here = node.membership.id();
    let mut said = None;
    match moves::next(seen.attachment.as_ref(), here, binding, node.membership.stamp())
        .map_err(|error| ApiError::try_again(format!("{domain}/{name} cannot be attached: {error}")))?
    {
        Next::Same => {}
        Next::Say(attachment) => {
            writes.push(FactWrite {
                key: Attachment::key(name),
                body: Some(attachment.encode()?),
            });
            said = Some(attachment);
        }
    }
    let marks = match writes.is_empty() {
        true => Vec::new(),
        false => vec![
            node.membership
                .write_facts(Scope::Domain(domain.clone()), writes)
                .await?,
        ],
    };
    let before = seen.attachment.as_ref().filter(|(host, _)| *host == here);
    let moved = seen
        .attachment
        .as_ref()
        .filter(|_| said.is_some())
        .map(|(host, former)| {
            let host = node
                .sight
                .names()
                .get(host)
                .map_or_else(|| host.to_string(), ToString::to_string);
            let place = binding::describe(&former.binding);
            format!("moved from {host}, where {place} had it until now")
        });
    Ok(Said {
        moved,
        marks,
        attachment: said,
        before: before.map(|(_, attachment)| attachment.clone()),
    })
}

fn allowed(node: &Node, domain: &Label, name: &Label, seen: &SeenEndpoint) -> Result<(), ApiError> {
    let names = node.sight.names();
    if seen.spec.allowed_hosts.allow(names.get(&node.membership.id())) {
        return Ok(());
    }
    let hosts: Vec<String> = seen.spec.allowed_hosts.iter().map(ToString::to_string).collect();
    Err(ApiError::refused(format!(
        "{domain}/{name} may not be attached on {}: its allowedHosts are {}",
        node.name(),
        hosts.join(", ")
    )))
}

/// One interface carries one endpoint.
fn free(view: &View, name: &Label, here: membership::id::NodeId, binding: &Binding) -> Result<(), ApiError> {
    let same = |(other, seen): &(&Label, &SeenEndpoint)| {
        *other != name
            && seen
                .attachment
                .as_ref()
                .is_some_and(|(host, said)| *host == here && said.binding == *binding)
    };
    match view.endpoints.iter().find(same) {
        None => Ok(()),
        Some((other, _)) => Err(ApiError::refused(format!(
            "{} carries endpoint {}/{other} already; detach that first or give another interface name",
            binding::describe(binding),
            view.domain
        ))),
    }
}

/// Claims an address in each subnet in which the endpoint has none.
async fn claims(node: &Node, domain: &Label, name: &Label, view: &View) -> Result<Vec<FactWrite>, ApiError> {
    let mut writes = Vec::new();
    let Some(network) = view.endpoints.get(name).map(|seen| seen.spec.network.clone()) else {
        return Ok(writes);
    };
    for subnet in view.unaddressed(name) {
        let said = claim_in(node, domain, name, view, &network, subnet).await?;
        writes.push(FactWrite {
            key: said.key(),
            body: Some(said.encode()?),
        });
    }
    Ok(writes)
}

async fn claim_in(
    node: &Node,
    domain: &Label,
    name: &Label,
    view: &View,
    network: &Label,
    subnet: Ipv4Net,
) -> Result<AddressClaim, ApiError> {
    let scope = Scope::Domain(domain.clone());
    for address in view.candidates(name, subnet).take(CLAIMS_MAX).map(IpAddr::V4) {
        match node.membership.claim(scope.clone(), &claim_key(network, address)).await {
            Ok(claim) => {
                return Ok(AddressClaim {
                    network: network.to_string(),
                    endpoint: name.to_string(),
                    address,
                    claim,
                });
            }
            Err(ClaimError::Held { .. }) => {}
            Err(error @ ClaimError::Key(_)) => return Err(ApiError::refused(format!("{domain}/{name}: {error}"))),
            Err(error) => {
                let message = format!("no address in {subnet} could be claimed for {domain}/{name}: {error}");
                return Err(ApiError::try_again(message));
            }
        }
    }
    Err(ApiError::refused(format!(
        "{domain}/{name}: no address of {subnet} is free; give it one in spec.addresses or the network a larger subnet"
    )))
}

/// Waits until the workload's port is programmed; its host side.
async fn local_port(node: &Node, domain: &Label, name: &Label, deadline: Instant) -> Result<String, ApiError> {
    let target = node.waiter().target(domain);
    let mut force = node.reconcile.force();
    // The first pass that knows of the attachment may take its time, but what it finds seldom changes by itself.
    let first = force.wait_for(|force| force.reached(domain, target));
    let reached = matches!(tokio::time::timeout_at(deadline, first).await, Ok(Ok(_)));
    let deadline = if reached {
        deadline.min(Instant::now() + SETTLE_MAX)
    } else {
        Instant::now()
    };
    let programmed = force.wait_for(|force| side(force, domain, name, target).is_some());
    if let Ok(Ok(force)) = tokio::time::timeout_at(deadline, programmed).await
        && let Some(side) = side(&force, domain, name, target)
    {
        return Ok(side);
    }
    let force = node.reconcile.force();
    let force = force.borrow();
    let why = obstacle(&force, domain, name, target);
    let message = format!("{domain}/{name} could not be programmed here: {why}");
    Err(match force.port(domain, name, target) {
        // The workload's side is not fit, and nothing but its owner changes that.
        Some(PortState::Waiting(_)) => ApiError::refused(message),
        Some(PortState::Programmed { .. }) | None => ApiError::try_again(message),
    })
}

/// The host side of a programmed port.
fn side(force: &Force, domain: &Label, name: &Label, target: Target) -> Option<String> {
    match force.port(domain, name, target)? {
        PortState::Programmed { name, .. } => Some(name.clone()),
        PortState::Waiting(_) => None,
    }
}

/// Why a port is not programmed.
fn obstacle(force: &Force, domain: &Label, name: &Label, target: Target) -> String {
    match (force.port(domain, name, target), force.failures.get(domain)) {
        (Some(PortState::Waiting(why)), _) | (None, Some(why)) => why.clone(),
        (Some(PortState::Programmed { .. }) | None, _) => conditions(force, domain, name),
    }
}

fn conditions(force: &Force, domain: &Label, name: &Label) -> String {
    let in_force = force.domains.get(domain);
    let found = in_force.and_then(|it| it.conditions.get(&(Kind::Endpoint, name.to_string())));
    let messages: Vec<&str> = found
        .into_iter()
        .flatten()
        .map(|condition| &*condition.message)
        .collect();
    if messages.is_empty() {
        "see `fabricctl status`".to_owned()
    } else {
        messages.join("; ")
    }
}

/// Waits for the other hosts of the domain; what is missing at the deadline is a warning.
async fn confirmed(node: &Node, domain: &Label, marks: &[Mark], deadline: Instant) -> Vec<String> {
    let waiter = node.waiter();
    let mut hosts = waiter.hosts(domain);
    hosts.remove(&node.membership.id());
    let programmed = waiter.everywhere(marks, &hosts, deadline).await;
    if programmed.pending.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "not confirmed within {} s by {}: first packets to and from there may be lost",
        OTHERS_MAX.as_secs(),
        programmed.pending.join(", ")
    )]
}

/// Its addresses with the prefix lengths of their subnets.
fn addresses(view: &View, seen: &SeenEndpoint) -> Vec<String> {
    let network = view.networks.get(&seen.spec.network);
    let shown = |address: IpAddr| match network.and_then(|network| network.spec.subnet_of(address)) {
        Some(subnet) => format!("{address}/{}", subnet.net().prefix_len()),
        None => address.to_string(),
    };
    seen.addresses().map(shown).collect()
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::TooLarge(_) | WriteError::NotHere => Self::refused(error.to_string()),
            WriteError::Store(_) => Self::internal(error.to_string()),
            WriteError::Changed(_) => Self::new(Code::PreconditionFailed, error.to_string()),
            WriteError::Closed | WriteError::Clock(_) => Self::try_again(error.to_string()),
        }
    }
}

impl From<FactError> for ApiError {
    fn from(error: FactError) -> Self {
        Self::bad_request(error.to_string())
    }
}
