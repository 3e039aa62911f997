//! The kernel's links, addresses, routes and neighbours as values, read by rtnetlink in the network namespace of the
//! thread that connects.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aya::programs::TcAttachType;
use futures::{StreamExt as _, TryStream, TryStreamExt as _};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteVia};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, RouteMessageBuilder};
use tokio::task::JoinHandle;

use crate::device::{self, Tunnel};
use crate::error::Error;
use crate::lost::Statistics;

/// Marks addresses and neighbours as ours (`IFA_PROTO`, `NDA_PROTOCOL`); a number that no known daemon uses.
pub(crate) const OUR_PROTOCOL: u8 = 0xfa;

/// A connection to the kernel. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Netlink {
    pub(crate) handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Link {
    pub(crate) ifindex: u32,
    pub(crate) name: String,
    pub(crate) alias: String,
    pub(crate) group: u32,
    pub(crate) kind: Kind,
    /// Zero if it has no Ethernet address.
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    /// Somebody is at the other end.
    pub(crate) carrier: bool,
    /// The kernel sends by it: up, with a carrier that it has noticed.
    pub(crate) operational: bool,
    pub(crate) no_arp: bool,
    /// The bridge, bond or VRF it is a port of.
    pub(crate) master: Option<u32>,
    /// A veth's other end: its index and, if it is elsewhere, the number of its namespace as seen from here.
    pub(crate) peer: (Option<u32>, Option<i32>),
}

/// Kinds of interface that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    Veth,
    Tun,
    Loopback,
    /// A VXLAN or Geneve device.
    Tunnel(Tunnel),
    /// A bridge, bond, VRF or encrypted tunnel: no workload is at its other end.
    Joint,
    #[default]
    Other,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) ifindex: u32,
    pub(crate) ip: IpAddr,
    pub(crate) prefix: u8,
    /// We added it.
    pub(crate) ours: bool,
}

/// Where packets to an address go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) ifindex: u32,
    /// `None` if the destination is on the link.
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) mtu: Option<u32>,
}

/// Most entries that are read of a list of a workload's namespace.
pub(crate) const READ_MAX: usize = 65_536;

/// What a list begins with. Who stops reading closes the connection: the kernel goes on as long as somebody listens.
pub(crate) async fn at_most<T>(
    most: usize,
    list: impl TryStream<Ok = T, Error = rtnetlink::Error>,
) -> Result<Vec<T>, rtnetlink::Error> {
    list.into_stream().take(most).try_collect().await
}

/// An entry of the neighbour table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// Its MAC address, if it is resolved.
    pub(crate) mac: Option<[u8; 6]>,
    /// We added it.
    pub(crate) ours: bool,
    /// An administrator set it: it is left alone.
    pub(crate) fixed: bool,
}

/// Neighbours by interface and address.
pub(crate) type Neighbours = BTreeMap<(u32, IpAddr), Neighbour>;

impl Netlink {
    /// Connects in the network namespace of this thread. Needs a tokio runtime.
    pub(crate) fn connect() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(connect_failed)?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    /// Whether the kernel or the runtime closed the connection, so that another one is needed.
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_finished()
    }

    /// Every interface, by index.
    pub(crate) async fn links(&self) -> Result<BTreeMap<u32, Link>, Error> {
        let links: Vec<_> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(Error::netlink("list links"))?;
        Ok(links
            .into_iter()
            .map(|message| parse_link(&message))
            .map(|link| (link.ifindex, link))
            .collect())
    }

    /// What the kernel dropped on every interface, by index.
    pub(crate) async fn statistics(&self) -> Result<BTreeMap<u32, Statistics>, Error> {
        let links = self.handle.link().get().execute().try_collect::<Vec<_>>().await;
        let links = links.map_err(Error::netlink("read the interfaces' counters"))?;
        Ok(links
            .iter()
            .filter_map(|message| Some((message.header.index, parse_statistics(message)?)))
            .collect())
    }

    /// One interface; `None` if it is gone.
    pub(crate) async fn link(&self, ifindex: u32) -> Result<Option<Link>, Error> {
        let get = self.handle.link().get().match_index(ifindex);
        one(get.execute().try_next().await).map_err(Error::netlink("look at a link"))
    }

    /// The interface with a name; `None` if there is none.
    pub(crate) async fn link_named(&self, name: &str) -> Result<Option<Link>, Error> {
        let get = self.handle.link().get().match_name(name.to_owned());
        one(get.execute().try_next().await).map_err(Error::netlink(format!("look at {name}")))
    }

    /// One interface of the namespace that this one knows by a number; `None` if either is gone.
    pub(crate) async fn link_of(&self, namespace: i32, ifindex: u32) -> Result<Option<Link>, Error> {
        let mut get = self.handle.link().get().match_index(ifindex);
        get.message_mut().attributes.push(LinkAttribute::IfNetnsId(namespace));
        match get.execute().try_next().await {
            // The namespace is gone.
            Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -nix::libc::EINVAL => Ok(None),
            answer => one(answer).map_err(Error::netlink("look at a link of a namespace")),
        }
    }

    /// Every address of every interface.
    pub(crate) async fn addresses(&self) -> Result<Vec<Owned>, Error> {
        let addresses: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(Error::netlink("list addresses"))?;
        Ok(addresses.iter().filter_map(parse_address).collect())
    }

    /// The addresses of an interface of a namespace that somebody else fills: what comes behind so many is not read.
    pub(crate) async fn addresses_of(&self, ifindex: u32) -> Result<Vec<Owned>, Error> {
        let all = at_most(READ_MAX, self.handle.address().get().execute()).await;
        let all = all.map_err(Error::netlink("list the addresses in the namespace"))?;
        let all = all.iter().filter_map(parse_address);
        Ok(all.filter(|owned| owned.ifindex == ifindex).collect())
    }

    /// The kernel's route for packets from `local` to `remote`; `None` if there is none.
    pub(crate) async fn route(&self, local: IpAddr, remote: IpAddr) -> Result<Option<Route>, Error> {
        let message = match (local, remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(remote, 32)
                .source_prefix(local, 32)
                .build(),
            (IpAddr::V6(local), IpAddr::V6(remote)) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(remote, 128)
                .source_prefix(local, 128)
                .build(),
            _ => return Ok(None),
        };
        match self.handle.route().get(message).execute().try_next().await {
            Ok(message) => Ok(message.as_ref().and_then(parse_route)),
            // No route, or our address is not there: both are a state of the host, not an error of the request.
            Err(rtnetlink::Error::NetlinkError(_)) => Ok(None),
            Err(e) => Err(Error::netlink(format!("look up the route to {remote}"))(e)),
        }
    }

    /// Handles of the filters of an interface's clsact qdisc; none if it has no such qdisc.
    pub(crate) async fn filters(&self, link: &Link, direction: TcAttachType) -> Result<Vec<u32>, Error> {
        let get = self
            .handle
            .traffic_filter(i32::try_from(link.ifindex).unwrap_or_default())
            .get();
        let get = match direction {
            TcAttachType::Ingress => get.ingress(),
            _ => get.egress(),
        };
        let filters: Vec<_> = get
            .execute()
            .try_collect()
            .await
            .map_err(Error::netlink(format!("look at the filters of {}", link.name)))?;
        Ok(filters.into_iter().map(|filter| filter.header.handle.into()).collect())
    }

    /// The neighbour tables of IPv4 and IPv6.
    pub(crate) async fn neighbours(&self) -> Result<Neighbours, Error> {
        let listed: Vec<_> = self
            .handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(Error::netlink("list neighbours"))?;
        Ok(listed.iter().filter_map(parse_neighbour).collect())
    }

    /// The number that this namespace has for another one, given as an open file; `None` if it has none.
    pub(crate) async fn namespace_number(&self, file: u32) -> Result<Option<i32>, Error> {
        let mut message = NsidMessage::default();
        message.attributes.push(NsidAttribute::Fd(file));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let failed = || Error::netlink("look up a namespace's number");
        let mut handle = self.handle.clone();
        let mut answers = handle.request(request).map_err(failed())?;
        let mut number = None;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::Error(e) if e.code.is_some() => {
                    return Err(failed()(rtnetlink::Error::NetlinkError(e)));
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(found)) => {
                    number = found.attributes.iter().find_map(|attribute| match attribute {
                        NsidAttribute::Id(id) if *id >= 0 => Some(*id),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        Ok(number)
    }
}

fn one(answer: Result<Option<LinkMessage>, rtnetlink::Error>) -> Result<Option<Link>, rtnetlink::Error> {
    match answer {
        Ok(message) => Ok(message.as_ref().map(parse_link)),
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -nix::libc::ENODEV => Ok(None),
        Err(e) => Err(e),
    }
}

pub(crate) fn connect_failed(source: std::io::Error) -> Error {
    Error::Netlink {
        action: "open a netlink socket".into(),
        source,
    }
}

pub(crate) fn parse_link(message: &LinkMessage) -> Link {
    let mut link = Link {
        ifindex: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        no_arp: message.header.flags.contains(LinkFlags::Noarp),
        ..Link::default()
    };
    if message.header.flags.contains(LinkFlags::Loopback) {
        link.kind = Kind::Loopback;
    }
    let mut oper_state = State::Down;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Carrier(carrier) => link.carrier = *carrier != 0,
            LinkAttribute::OperState(state) => oper_state = *state,
            LinkAttribute::Controller(master) => link.master = Some(*master).filter(|master| *master != 0),
            LinkAttribute::Link(peer) => link.peer.0 = Some(*peer),
            LinkAttribute::LinkNetNsId(namespace) => link.peer.1 = Some(*namespace),
            LinkAttribute::LinkInfo(infos) => link.kind = infos.iter().find_map(kind).unwrap_or(link.kind),
            _ => {}
        }
    }
    link.operational = match oper_state {
        State::Up => true,
        // What never had to wait for a carrier; a veth always has.
        State::Unknown => link.kind != Kind::Veth,
        _ => false,
    };
    link
}

fn parse_statistics(message: &LinkMessage) -> Option<Statistics> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(counts) => Some(Statistics {
            received: counts.rx_dropped + counts.rx_errors,
            sent: counts.tx_dropped + counts.tx_errors,
        }),
        _ => None,
    })
}

fn kind(info: &LinkInfo) -> Option<Kind> {
    match info {
        LinkInfo::Kind(InfoKind::Veth) => Some(Kind::Veth),
        LinkInfo::Kind(InfoKind::Tun) => Some(Kind::Tun),
        LinkInfo::Kind(InfoKind::Bridge | InfoKind::Bond | InfoKind::Vrf | InfoKind::Wireguard | InfoKind::Xfrm) => {
            Some(Kind::Joint)
        }
        other => device::tunnel(other).map(Kind::Tunnel),
    }
}

fn parse_address(message: &AddressMessage) -> Option<Owned> {
    let mut address = None;
    let mut local = None;
    let mut ours = false;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Protocol(AddressProtocol::Other(OUR_PROTOCOL)) => ours = true,
            _ => {}
        }
    }
    // On a point-to-point link `Address` is the other end's.
    let ip = local.or(address)?;
    Some(Owned {
        ifindex: message.header.index,
        ip,
        prefix: message.header.prefix_len,
        ours,
    })
}

fn parse_route(message: &RouteMessage) -> Option<Route> {
    let ifindex = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    Some(Route {
        ifindex: ifindex?,
        gateway: message.attributes.iter().find_map(gateway),
        mtu: route_mtu(message),
    })
}

/// The gateway, of a route or of one of its next hops.
pub(crate) fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Gateway(RouteAddress::Inet6(v6)) | RouteAttribute::Via(RouteVia::Inet6(v6)) => {
            Some(IpAddr::V6(*v6))
        }
        _ => None,
    }
}

/// The MTU that a route sets.
pub(crate) fn route_mtu(message: &RouteMessage) -> Option<u32> {
    let metrics = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => Some(metrics),
        _ => None,
    })?;
    metrics.iter().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

fn parse_neighbour(message: &NeighbourMessage) -> Option<((u32, IpAddr), Neighbour)> {
    let mut ip = None;
    let mut mac = None;
    let mut ours = false;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            NeighbourAttribute::Protocol(protocol) => ours = u8::from(*protocol) == OUR_PROTOCOL,
            _ => {}
        }
    }
    let (valid, fixed) = match message.header.state {
        NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe => {
            (true, false)
        }
        NeighbourState::Permanent | NeighbourState::Noarp => (true, true),
        _ => (false, false),
    };
    matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6).then_some(())?;
    Some((
        (message.header.ifindex, ip?),
        Neighbour {
            mac: mac.filter(|_| valid),
            ours,
            fixed,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_list_without_an_end_is_read_to_its_bound() {
        let endless = futures::stream::repeat(7).map(Ok);
        assert_eq!(at_most(3, endless).await.expect("a list"), [7, 7, 7]);
    }
}
