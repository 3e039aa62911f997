//! From what was set to what holds on this host: which addresses to advertise, and which carry tunnels. Pure: the
//! host's own answers come in as [`Host`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use membership::id::Label;

use super::Config;

/// What the host says when nobody set it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The address that its IPv4 default route leaves from.
    pub ipv4: Option<Ipv4Addr>,
    /// The address that its IPv6 default route leaves from.
    pub ipv6: Option<Ipv6Addr>,
}

/// Where this node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Mesh endpoint as others dial it, best first, never empty.
    pub advertise: Vec<SocketAddr>,
    /// IPv4 tunnel address; one of the two is there.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 tunnel address.
    pub ipv6: Option<Ipv6Addr>,
}

/// Why the host does not know what it is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// `listen` is a wildcard and there is no default route.
    #[error("this host has no default route: say with --advertise ADDRESS (mesh.advertise) where others reach it")]
    NoAdvertise,
    /// An address that nobody can dial.
    #[error("{0} cannot be advertised: it is a wildcard or multicast address, or its port is 0")]
    NotDialable(SocketAddr),
    /// An address that no tunnel can end at.
    #[error("{0} cannot be a tunnel address (underlay.ipv4, underlay.ipv6): it is a wildcard or multicast address")]
    NotTunnel(IpAddr),
    /// A port of the tunnels is no port.
    #[error("underlay.port and underlay.geneve_port cannot be 0: VXLAN's is 4789, Geneve's 6081")]
    NoPort,
    /// What comes in could not be told apart.
    #[error("underlay.port and underlay.geneve_port cannot both be {0}: VXLAN's is 4789, Geneve's 6081")]
    SamePort(u16),
    /// The host's name is no label.
    #[error("the host name {0:?} is no node name (a-z, 0-9 and '-'): give one with --name (node.name)")]
    Name(String),
}

impl Config {
    /// Where this node is reached and what carries its tunnels.
    pub fn addresses(&self, host: &Host) -> Result<Addresses, ResolveError> {
        let advertise = self.advertised(host)?;
        if let Some(bad) = advertise.iter().find(|address| !dialable(address)) {
            return Err(ResolveError::NotDialable(*bad));
        }
        let tunnel: Vec<IpAddr> = match (self.underlay.ipv4, self.underlay.ipv6) {
            (None, None) => advertise.iter().map(|address| address.ip().to_canonical()).collect(),
            (ipv4, ipv6) => ipv4.map(IpAddr::V4).into_iter().chain(ipv6.map(IpAddr::V6)).collect(),
        };
        if let Some(bad) = tunnel.iter().find(|ip| ip.is_unspecified() || ip.is_multicast()) {
            return Err(ResolveError::NotTunnel(*bad));
        }
        self.ports()?;
        let ipv4 = tunnel
            .iter()
            .find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
        let ipv6 = tunnel
            .iter()
            .find_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None });
        Ok(Addresses { advertise, ipv4, ipv6 })
    }

    fn ports(&self) -> Result<(), ResolveError> {
        match (self.underlay.port, self.underlay.geneve_port) {
            (0, _) | (_, 0) => Err(ResolveError::NoPort),
            (vxlan, geneve) if vxlan == geneve => Err(ResolveError::SamePort(vxlan)),
            (_, _) => Ok(()),
        }
    }

    /// This node's name.
    pub fn node_name(&self, host: &Host) -> Result<Label, ResolveError> {
        match &self.node.name {
            Some(name) => Ok(name.clone()),
            None => {
                let short = host.name.split('.').next().unwrap_or_default().to_ascii_lowercase();
                short.parse().map_err(|_| ResolveError::Name(host.name.clone()))
            }
        }
    }

    fn advertised(&self, host: &Host) -> Result<Vec<SocketAddr>, ResolveError> {
        let listen = self.mesh.listen.0;
        if !self.mesh.advertise.is_empty() {
            return Ok(self
                .mesh
                .advertise
                .iter()
                .map(|address| address.at(listen.port()))
                .collect());
        }
        if !listen.ip().is_unspecified() {
            return Ok(vec![listen]);
        }
        let ipv6 = host.ipv6.filter(|_| listen.is_ipv6()).map(IpAddr::V6);
        let found: Vec<_> = host.ipv4.map(IpAddr::V4).into_iter().chain(ipv6).collect();
        if found.is_empty() {
            return Err(ResolveError::NoAdvertise);
        }
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, listen.port())).collect())
    }
}

fn dialable(address: &SocketAddr) -> bool {
    !address.ip().is_unspecified() && !address.ip().is_multicast() && address.port() != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str, advertise: &[&str]) -> Config {
        let mut config = Config::default();
        config.mesh.listen = listen.parse().expect("an address");
        config.mesh.advertise = advertise.iter().map(|text| text.parse().expect("an address")).collect();
        config
    }

    fn host() -> Host {
        Host {
            name: "H1.example".to_owned(),
            ipv4: Some(Ipv4Addr::new(198, 51, 100, 7)),
            ipv6: None,
        }
    }

    #[test]
    fn tunnel_addresses_follow_what_is_advertised() {
        let both = config("::", &["192.0.2.1", "[2001:db8::1]:9"])
            .addresses(&host())
            .expect("addresses");
        assert_eq!(both.ipv4, Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(both.ipv6, "2001:db8::1".parse().ok());
        let listen = config("192.0.2.2:5", &[]).addresses(&host()).expect("addresses");
        assert_eq!((listen.ipv4, listen.ipv6), (Some(Ipv4Addr::new(192, 0, 2, 2)), None));
        assert_eq!(listen.advertise, ["192.0.2.2:5".parse().expect("an address")]);
    }

    #[test]
    fn what_is_advertised_without_a_port_is_at_the_one_that_is_listened_at() {
        let set = config("[::]:5", &["192.0.2.1", "2001:db8::1", "192.0.2.2:9"]);
        let found = set.addresses(&host()).expect("addresses").advertise;
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.1:5", "[2001:db8::1]:5", "192.0.2.2:9"]);
    }

    #[test]
    fn a_wildcard_asks_the_host() {
        let found = config("[::]:5", &[]).addresses(&host()).expect("addresses");
        assert_eq!(found.advertise, ["198.51.100.7:5".parse().expect("an address")]);
        assert_eq!(
            config("::", &[]).addresses(&Host::default()),
            Err(ResolveError::NoAdvertise)
        );
    }

    #[test]
    fn what_is_set_for_the_underlay_wins() {
        let mut set = config("192.0.2.2", &[]);
        set.underlay.ipv6 = "2001:db8::5".parse().ok();
        let found = set.addresses(&host()).expect("addresses");
        assert_eq!((found.ipv4, found.ipv6), (None, "2001:db8::5".parse().ok()));
    }

    #[test]
    fn what_nobody_can_dial_is_refused() {
        for bad in ["0.0.0.0:5", "192.0.2.1:0", "224.0.0.1:5"] {
            let error = config("::", &[bad]).addresses(&host());
            assert_eq!(error, Err(ResolveError::NotDialable(bad.parse().expect("an address"))));
        }
    }

    #[test]
    fn the_name_is_the_hosts_first_label() {
        assert_eq!(
            Config::default().node_name(&host()).map(|name| name.to_string()),
            Ok("h1".to_owned())
        );
        let odd = Host {
            name: "a_b".to_owned(),
            ..Host::default()
        };
        assert_eq!(
            Config::default().node_name(&odd),
            Err(ResolveError::Name("a_b".to_owned()))
        );
    }
    #[test]
    fn what_no_tunnel_can_end_at_is_refused() {
        let with = |underlay: &str| {
            let text = format!("[mesh]\nlisten = \"192.0.2.1\"\n[underlay]\n{underlay}\n");
            let config = Config::parse("f".as_ref(), &text).expect("valid");
            config.addresses(&Host::default())
        };
        assert!(with("ipv4 = \"192.0.2.2\"").is_ok());
        for bad in [
            "ipv4 = \"0.0.0.0\"",
            "ipv4 = \"224.0.0.1\"",
            "ipv6 = \"::\"",
            "ipv6 = \"ff02::1\"",
        ] {
            assert!(matches!(with(bad), Err(ResolveError::NotTunnel(_))), "{bad}");
        }
        assert!(with("port = 5\ngeneve_port = 6").is_ok());
        assert_eq!(with("port = 0"), Err(ResolveError::NoPort));
        assert_eq!(with("geneve_port = 0"), Err(ResolveError::NoPort));
        assert_eq!(with("port = 6081"), Err(ResolveError::SamePort(6081)));
        assert_eq!(with("geneve_port = 4789"), Err(ResolveError::SamePort(4789)));
    }
}
