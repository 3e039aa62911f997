//! A socket address whose port may be left out.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::Deserialize;

use super::MESH_PORT;

/// `ADDRESS` or `ADDRESS:PORT`; an IPv6 address with a port stands in brackets. The port defaults to [`MESH_PORT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address(pub SocketAddr);

/// Why a text is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address; write 192.0.2.1, 192.0.2.1:7790, 2001:db8::1 or [2001:db8::1]:7790")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bare = || {
            text.parse::<IpAddr>()
                .ok()
                .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        };
        let address = text
            .parse()
            .ok()
            .or_else(|| bare().map(|ip| SocketAddr::new(ip, MESH_PORT)));
        address.map(Self).ok_or_else(|| AddressError(text.to_owned()))
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_may_be_left_out() {
        let cases = [
            ("192.0.2.1", Some("192.0.2.1:7790")),
            ("192.0.2.1:1", Some("192.0.2.1:1")),
            ("2001:db8::1", Some("[2001:db8::1]:7790")),
            ("[2001:db8::1]", Some("[2001:db8::1]:7790")),
            ("[2001:db8::1]:2", Some("[2001:db8::1]:2")),
            ("host:1", None),
            ("", None),
        ];
        for (text, wanted) in cases {
            let read = text.parse::<Address>().ok().map(|address| address.to_string());
            assert_eq!(read.as_deref(), wanted, "{text:?}");
        }
    }
}
