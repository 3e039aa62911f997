//! Who a workload is: everything follows from its network and number.

use std::net::{IpAddr, Ipv6Addr};

/// VNI of the first network.
pub(crate) const VNI: u32 = 7;

/// A workload's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its network: 0, or 1 behind the router.
    pub(crate) network: u8,
    /// Its number in the network.
    pub(crate) number: u16,
}

impl Identity {
    /// In the first network.
    pub(crate) const fn new(number: u16) -> Self {
        Self { network: 0, number }
    }

    /// In the network behind the router.
    pub(crate) const fn routed(number: u16) -> Self {
        Self { network: 1, number }
    }

    pub(crate) fn vni(self) -> u32 {
        VNI + u32::from(self.network)
    }

    /// As the programs know it.
    pub(crate) fn endpoint(self) -> u32 {
        u32::from(self.network) << 16 | u32::from(self.number)
    }

    pub(crate) fn mac(self) -> [u8; 6] {
        let [high, low] = self.number.to_be_bytes();
        [0x02, 0xaa, 0, self.network, high, low]
    }

    pub(crate) fn mac_text(self) -> String {
        self.mac().map(|byte| format!("{byte:02x}")).join(":")
    }

    pub(crate) fn v4(self) -> [u8; 4] {
        let [high, low] = self.number.to_be_bytes();
        [10, self.network, high, low]
    }

    pub(crate) fn v6(self) -> [u8; 16] {
        let network = 1 + u16::from(self.network);
        Ipv6Addr::new(0xfd00, 0, 0, network, 0, 0, 0, self.number).octets()
    }

    /// The link-local address of its MAC address (RFC 4291 appendix A).
    pub(crate) fn link_local(self) -> [u8; 16] {
        let [a, b, c, d, e, f] = self.mac();
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    }

    /// One address of each family.
    pub(crate) fn addresses(self) -> [IpAddr; 2] {
        [self.v4().into(), self.v6().into()]
    }
}
