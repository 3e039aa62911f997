//! What an endpoint may send from besides its own addresses.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SpecError;
use crate::name::ValueError;
use crate::prefix::Prefix;

/// Up to 64 different prefixes, ascending, each of which holds an address that a workload may send from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Source>", into = "Vec<Source>")]
pub struct AllowedAddresses(BTreeSet<Prefix>);

impl AllowedAddresses {
    /// Most prefixes.
    pub const MAX: usize = 64;

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Deref for AllowedAddresses {
    type Target = BTreeSet<Prefix>;

    fn deref(&self) -> &BTreeSet<Prefix> {
        &self.0
    }
}

impl TryFrom<Vec<Source>> for AllowedAddresses {
    type Error = SpecError;

    fn try_from(given: Vec<Source>) -> Result<Self, SpecError> {
        SpecError::limit("allowed addresses", Self::MAX, given.len())?;
        let mut prefixes = BTreeSet::new();
        for Source(prefix) in given {
            if let Some(why) = prefix.unusable() {
                return Err(SpecError::Source(prefix, why));
            }
            if !prefixes.insert(prefix) {
                return Err(SpecError::PrefixTwice(prefix));
            }
        }
        Ok(Self(prefixes))
    }
}

impl From<AllowedAddresses> for Vec<Source> {
    fn from(addresses: AllowedAddresses) -> Self {
        addresses.0.into_iter().map(Source).collect()
    }
}

/// A prefix; one of a single address is written as that address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Source(pub Prefix);

impl FromStr for Source {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match (text.parse::<IpAddr>(), text.parse::<Prefix>()) {
            (Ok(address), _) => Prefix::try_from(ipnet::IpNet::from(address)).map(Self),
            (_, Err(ValueError::PrefixSyntax(text))) => Err(ValueError::SourceSyntax(text)),
            (_, prefix) => prefix.map(Self),
        }
    }
}

impl TryFrom<String> for Source {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.single() {
            Some(address) => fmt::Display::fmt(&address, f),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(texts: &[&str]) -> Result<AllowedAddresses, String> {
        let sources: Result<Vec<Source>, ValueError> = texts.iter().map(|text| text.parse()).collect();
        let sources = sources.map_err(|error| error.to_string())?;
        sources.try_into().map_err(|error: SpecError| error.to_string())
    }

    #[test]
    fn addresses_and_prefixes_are_one_thing() {
        let some = allowed(&["fd00::5", "10.0.0.5", "10.1.0.0/16", "0.0.0.0/0"]).unwrap();
        assert_eq!(
            allowed(&["10.0.0.5/32", "fd00::5/128", "10.1.0.0/16", "0.0.0.0/0"]),
            Ok(some.clone())
        );
        let shown: Vec<String> = Vec::<Source>::from(some).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["0.0.0.0/0", "10.0.0.5", "10.1.0.0/16", "fd00::5"]);
    }

    #[test]
    fn what_nobody_can_send_from_is_refused() {
        for (texts, part) in [
            (&["10.0.0.5", "10.0.0.5/32"][..], "10.0.0.5/32 is listed twice"),
            (&["127.0.0.1"], "nothing can be sent from 127.0.0.1/32: it is loopback"),
            (&["::ffff:10.0.0.5"], "write it as IPv4"),
            (&["ten"], "an address or a prefix is written as"),
            (&["10.0.0.5/8"], "has host bits set"),
        ] {
            let error = allowed(texts).unwrap_err();
            assert!(error.contains(part), "{texts:?}: {error}");
        }
        let many: Vec<String> = (0..65).map(|n| format!("10.0.{n}.0/24")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(allowed(&many).unwrap_err().contains("at most 64 allowed addresses"));
    }
}
