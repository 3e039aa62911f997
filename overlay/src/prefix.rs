//! IP prefixes of any length: what routes lead to, whom rules speak of, what endpoints may send from.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::name::ValueError;
use crate::subnet::unusable_address;

/// An IPv4 or IPv6 prefix without host bits, of any length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(IpNet);

impl Prefix {
    /// The prefix.
    #[must_use]
    pub fn net(self) -> IpNet {
        self.0
    }

    /// Whether the address is in it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// The address, if it holds just one.
    #[must_use]
    pub fn single(self) -> Option<IpAddr> {
        (self.0.prefix_len() == self.0.max_prefix_len()).then(|| self.0.addr())
    }

    /// Why none of its addresses can be a workload's, if so: the blocks of such addresses are prefixes, so one of them
    /// holds all of this one if it holds its first and its last address.
    #[must_use]
    pub fn unusable(self) -> Option<&'static str> {
        let [first, last] = [self.0.network(), self.0.broadcast()].map(unusable_address);
        first.filter(|_| first == last)
    }
}

impl TryFrom<IpNet> for Prefix {
    type Error = ValueError;

    fn try_from(given: IpNet) -> Result<Self, ValueError> {
        let network = given.trunc();
        match network {
            _ if network != given => Err(ValueError::HostBits { given, network }),
            IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.network().to_ipv4_mapped().is_some() => {
                Err(ValueError::Mapped(given))
            }
            IpNet::V4(_) | IpNet::V6(_) => Ok(Self(network)),
        }
    }
}

impl FromStr for Prefix {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let net: IpNet = text.parse().map_err(|_| ValueError::PrefixSyntax(text.to_owned()))?;
        Self::try_from(net)
    }
}

impl TryFrom<String> for Prefix {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_any_length_has_no_host_bits() {
        for text in ["0.0.0.0/0", "::/0", "10.0.0.0/8", "10.0.0.5/32", "fd00::5/128", "::/64"] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
        for (text, part) in [
            ("10.0.0.5", "one address as 10.0.0.5/32, not \"10.0.0.5\""),
            ("10.0.0.0/33", "a prefix is written as"),
            (
                "10.0.0.5/24",
                "10.0.0.5/24 has host bits set; the prefix is 10.0.0.0/24",
            ),
            ("::ffff:10.0.0.0/104", "write it as IPv4"),
        ] {
            let message = text.parse::<Prefix>().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn a_prefix_that_no_workload_can_have_an_address_of_is_unusable() {
        let unusable = |text: &str| text.parse::<Prefix>().unwrap().unusable();
        for text in [
            "0.0.0.0/0",
            "::/0",
            "8.0.0.0/5",
            "126.0.0.0/7",
            "fd00::/8",
            "10.0.0.1/32",
        ] {
            assert_eq!(unusable(text), None, "{text}");
        }
        for text in [
            "0.0.0.0/8",
            "127.0.0.1/32",
            "169.254.0.0/16",
            "224.0.0.0/4",
            "240.0.0.0/5",
            "::1/128",
            "fe80::/64",
            "ff00::/8",
        ] {
            assert!(unusable(text).is_some(), "{text}");
        }
    }
}
