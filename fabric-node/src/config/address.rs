//! Addresses whose port may be left out.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use super::MESH_PORT;

/// `ADDRESS` or `ADDRESS:PORT`; an IPv6 address with a port stands in brackets. The port defaults to `PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address<const PORT: u16 = MESH_PORT>(pub SocketAddr);

/// Why a text is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address; write 192.0.2.1, 192.0.2.1:{port}, 2001:db8::1 or [2001:db8::1]:{port}")]
pub struct AddressError {
    text: String,
    port: u16,
}

/// The same, where the port is another address's if it is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Reached {
    ip: IpAddr,
    port: Option<u16>,
}

impl Reached {
    /// The address, at `port` if it names none.
    #[must_use]
    pub fn at(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(port))
    }
}

impl FromStr for Reached {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let whole = |address: SocketAddr| (address.ip(), Some(address.port()));
        let bare = || {
            text.parse::<IpAddr>()
                .ok()
                .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        };
        let read = text.parse().ok().map(whole).or_else(|| Some((bare()?, None)));
        read.map(|(ip, port)| Self { ip, port }).ok_or_else(|| AddressError {
            text: text.to_owned(),
            port: MESH_PORT,
        })
    }
}

impl TryFrom<String> for Reached {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

impl Serialize for Reached {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<const PORT: u16> FromStr for Address<PORT> {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let read = text
            .parse::<Reached>()
            .map_err(|error| AddressError { port: PORT, ..error })?;
        Ok(Self(read.at(PORT)))
    }
}

impl<const PORT: u16> TryFrom<String> for Address<PORT> {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl<const PORT: u16> fmt::Display for Address<PORT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const PORT: u16> Serialize for Address<PORT> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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
            let read = text
                .parse::<Address<MESH_PORT>>()
                .ok()
                .map(|address| address.to_string());
            assert_eq!(read.as_deref(), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_port_that_was_left_out_stays_open() {
        for (text, shown, wanted) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.1:5"),
            ("192.0.2.1:1", "192.0.2.1:1", "192.0.2.1:1"),
            ("[2001:db8::1]", "2001:db8::1", "[2001:db8::1]:5"),
            ("[2001:db8::1]:2", "[2001:db8::1]:2", "[2001:db8::1]:2"),
        ] {
            let read: Reached = text.parse().expect("an address");
            assert_eq!(
                (read.to_string().as_str(), read.at(5).to_string().as_str()),
                (shown, wanted)
            );
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        assert!("host:1".parse::<Reached>().is_err());
    }
}
