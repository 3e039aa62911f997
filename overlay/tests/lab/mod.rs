//! Views from a readable form: hosts, objects and what hosts say, by names.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use membership::claim::{Acknowledgement, Claim};
use membership::hlc::Stamp;
use membership::id::{Label, NodeId, Scope};
use membership::record::{Dot, Fact, Intent, Key, VersionVector};
use overlay::address::claim_key;
use overlay::fact::{AddressClaim, Attachment, Binding, Content, Vtep};
use overlay::manifest;
use serde::Deserialize;

/// Hosts, objects and facts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Input {
    /// The domain to look at.
    pub(crate) domain: Label,
    /// Nodes, by name; their ids are their names filled up with 2s.
    pub(crate) hosts: BTreeMap<String, Option<HostInput>>,
    /// Manifests with a `stamp`.
    pub(crate) objects: Vec<serde_norway::Mapping>,
    #[serde(default)]
    pub(crate) attachments: Vec<AttachmentInput>,
    #[serde(default)]
    pub(crate) claims: Vec<ClaimInput>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct HostInput {
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    #[serde(default = "usual")]
    pub(crate) underlay_mtu: u16,
    #[serde(default)]
    pub(crate) stamp: u64,
}

fn usual() -> u16 {
    1500
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttachmentInput {
    pub(crate) endpoint: String,
    pub(crate) host: String,
    #[serde(default)]
    pub(crate) counter: u64,
    pub(crate) interface: Option<String>,
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimInput {
    pub(crate) host: String,
    pub(crate) network: Label,
    pub(crate) endpoint: Label,
    pub(crate) address: IpAddr,
    #[serde(default)]
    pub(crate) stamp: u64,
    /// What the claim is for, if not for the address.
    pub(crate) key: Option<String>,
    /// Who holds the claim, if not the host.
    pub(crate) holder: Option<String>,
    #[serde(default)]
    pub(crate) unwitnessed: bool,
}

pub(crate) fn node(name: &str) -> NodeId {
    format!("{name:2<12}")
        .parse()
        .expect("a node's name is up to 12 of a-z and 2-7")
}

pub(crate) fn stamp(millis: u64) -> Stamp {
    Stamp { millis, logical: 0 }
}

impl Input {
    pub(crate) fn read(text: &str) -> Self {
        serde_norway::from_str(text).expect("an input is of this form")
    }

    /// The objects as records, as any node would have them.
    pub(crate) fn intents(&self) -> Vec<Intent> {
        self.objects.iter().map(intent).collect()
    }

    /// What the hosts say, the system scope included.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        let vteps = self.hosts.iter().filter_map(|(name, host)| vtep(name, host.as_ref()?));
        let attachments = self.attachments.iter().map(|said| attachment(&self.domain, said));
        let claims = self.claims.iter().map(|said| claim(&self.domain, said));
        vteps.chain(attachments).chain(claims).collect()
    }

    pub(crate) fn names(&self) -> BTreeMap<NodeId, Label> {
        self.hosts
            .keys()
            .map(|name| (node(name), name.parse().expect("a label")))
            .collect()
    }
}

fn intent(manifest: &serde_norway::Mapping) -> Intent {
    let mut manifest = manifest.clone();
    let millis = manifest
        .remove("stamp")
        .and_then(|stamp| stamp.as_u64())
        .expect("an object has a stamp");
    let text = serde_norway::to_string(&manifest).expect("a mapping");
    let mut documents = manifest::parse("input", &text).unwrap_or_else(|errors| panic!("{}", errors[0]));
    let object = documents.remove(0).object;
    Intent {
        scope: object.scope(),
        key: object.key(),
        dot: Dot {
            writer: node("writer"),
            counter: 1,
        },
        context: VersionVector::default(),
        stamp: stamp(millis),
        author: "tester".into(),
        body: Some(object.spec.encode()),
    }
}

fn fact(origin: NodeId, scope: Scope, key: Key, millis: u64, content: &impl Content) -> Fact {
    let body = Some(content.encode().expect("a valid fact"));
    Fact {
        origin,
        scope,
        epoch: 1,
        seq: 1,
        previous: Default::default(),
        key,
        stamp: stamp(millis),
        body,
    }
}

fn vtep(name: &str, host: &HostInput) -> Option<Fact> {
    let vtep = Vtep {
        ipv4: host.ipv4,
        ipv6: host.ipv6,
        port: 4789,
        underlay_mtu: host.underlay_mtu,
    };
    Some(fact(node(name), Scope::System, Vtep::key(), host.stamp, &vtep))
}

fn attachment(domain: &Label, said: &AttachmentInput) -> Fact {
    let binding = match (&said.interface, &said.namespace) {
        (Some(name), None) => Binding::Interface { name: name.clone() },
        (None, Some(path)) => Binding::Namespace {
            path: path.into(),
            interface: "eth0".to_owned(),
        },
        _ => panic!("{said:?}: an interface or a namespace"),
    };
    let content = Attachment {
        counter: said.counter,
        moves: Vec::new(),
        binding,
    };
    let key = Attachment::key(&said.endpoint.parse().expect("a label"));
    fact(node(&said.host), Scope::Domain(domain.clone()), key, 0, &content)
}

fn claim(domain: &Label, said: &ClaimInput) -> Fact {
    let witness = Acknowledgement {
        anchor: node("anchor"),
        list: 1,
        signature: vec![],
    };
    let scope = Scope::Domain(domain.clone());
    let claim = Claim {
        scope: scope.clone(),
        key: said
            .key
            .clone()
            .unwrap_or_else(|| claim_key(&said.network, said.address))
            .into(),
        holder: node(said.holder.as_ref().unwrap_or(&said.host)),
        witnesses: if said.unwitnessed { vec![] } else { vec![witness] },
    };
    let (network, endpoint) = (said.network.to_string(), said.endpoint.to_string());
    let content = AddressClaim {
        network,
        endpoint,
        address: said.address,
        claim,
    };
    fact(node(&said.host), scope, content.key(), said.stamp, &content)
}
