//! Destination ports of a rule.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::PolicyError;
use crate::object::SpecError;

/// Every port, or one to 16 ranges of which no two overlap, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ports(BTreeSet<PortRange>);

impl Ports {
    /// Most ranges.
    pub const MAX: usize = 16;
    /// Every port.
    pub const ALL: Self = Self(BTreeSet::new());

    /// These ports, of which there must be one.
    pub fn of(given: Vec<PortRange>) -> Result<Self, SpecError> {
        if given.is_empty() {
            return Err(PolicyError::NoPorts.into());
        }
        SpecError::limit("ports", Self::MAX, given.len())?;
        let mut ranges = BTreeSet::<PortRange>::new();
        for range in given {
            if let Some(other) = ranges.iter().find(|other| other.overlaps(range)) {
                return Err(PolicyError::PortsOverlap(*other, range).into());
            }
            ranges.insert(range);
        }
        Ok(Self(ranges))
    }

    /// As written: nothing for every port.
    pub fn written(&self) -> impl ExactSizeIterator<Item = PortRange> + '_ {
        self.0.iter().copied()
    }

    /// The ranges; one range of all for every port.
    pub fn ranges(&self) -> Vec<RangeInclusive<u16>> {
        if self.0.is_empty() {
            vec![0..=u16::MAX]
        } else {
            self.0.iter().map(|range| range.low..=range.high).collect()
        }
    }
}

/// A port, or all from one to another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Scalar", into = "String")]
pub struct PortRange {
    low: u16,
    high: u16,
}

impl PortRange {
    /// All from the one to the other, both at least 1; none if they are in the wrong order.
    #[must_use]
    pub fn new(low: u16, high: u16) -> Option<Self> {
        (1 <= low && low <= high).then_some(Self { low, high })
    }

    /// The lowest and the highest.
    #[must_use]
    pub fn ends(self) -> (u16, u16) {
        (self.low, self.high)
    }

    fn overlaps(self, other: Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

impl FromStr for PortRange {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
            digits.then(|| text.parse::<u16>().ok()).flatten()
        };
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let range = number(low)
            .zip(number(high))
            .and_then(|(low, high)| Self::new(low, high));
        range.ok_or_else(|| PolicyError::Port(text.to_owned()))
    }
}

impl TryFrom<Scalar> for PortRange {
    type Error = PolicyError;

    fn try_from(scalar: Scalar) -> Result<Self, PolicyError> {
        scalar.to_string().parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.low, self.high) {
            (low, high) if low == high => write!(f, "{low}"),
            (low, high) => write!(f, "{low}-{high}"),
        }
    }
}

impl fmt::Debug for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What people write with and without quotes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number or a text")]
pub(super) enum Scalar {
    Number(u64),
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_or_a_range() {
        for (text, low, high) in [
            ("80", 80, 80),
            ("8000-8999", 8000, 8999),
            ("1-65535", 1, 65535),
            ("7-7", 7, 7),
        ] {
            assert_eq!(text.parse::<PortRange>().unwrap().ends(), (low, high), "{text}");
        }
        for text in [
            "",
            "0",
            "0-80",
            "65536",
            "-",
            "80-",
            "-80",
            "90-80",
            "80-90-100",
            "+80",
            " 80",
            "http",
        ] {
            assert_eq!(text.parse::<PortRange>(), Err(PolicyError::Port(text.to_owned())));
        }
    }

    #[test]
    fn ports_are_some_that_do_not_overlap() {
        let ports = |texts: &[&str]| Ports::of(texts.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(ports(&["443", "80"]).unwrap().ranges(), [80..=80, 443..=443]);
        assert_eq!(Ports::ALL.ranges(), [0..=65535]);
        assert_eq!(ports(&[]), Err(PolicyError::NoPorts.into()));
        let overlap = ports(&["80-90", "90"]).unwrap_err().to_string();
        assert_eq!(overlap, "80-90 and 90 overlap");
        let many: Vec<String> = (1..=17).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(matches!(
            ports(&many),
            Err(SpecError::TooMany { max: 16, given: 17, .. })
        ));
    }
}
