//! Which versions of the wire a node speaks, and which one two nodes speak with each other. A version says which messages
//! there are and which forms of records are written; what it means is told in `ALGORITHM.md`. Pure: who speaks what, and
//! what the cluster agreed on, come as arguments.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The first version, which every cluster starts with.
pub const FIRST: u16 = 1;
/// Frames have one byte for it.
const LAST: u16 = 255;

/// From the oldest to the newest version that a node speaks: at least one, none below [`FIRST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    min: u16,
    max: u16,
}

/// A version that this software does not speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this software speaks wire versions {own}, not {asked}", own = Versions::OWN)]
pub struct Unspoken {
    asked: u16,
}

/// Two nodes that cannot talk to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoCommon {
    /// What this node speaks.
    pub ours: Versions,
    /// What the other one offers.
    pub theirs: Versions,
    /// What the cluster agreed on, as far as this node knows.
    pub agreed: u16,
}

impl Versions {
    /// What this software speaks: its own version, and the one before for as long as a cluster is being upgraded.
    pub const OWN: Self = Self { min: FIRST, max: 2 };

    /// From one version to another; `None` where there is none in between.
    #[must_use]
    pub fn new(min: u16, max: u16) -> Option<Self> {
        (FIRST <= min && min <= max && max <= LAST).then_some(Self { min, max })
    }

    /// What this software speaks, but nothing newer than this.
    pub fn up_to(max: u16) -> Result<Self, Unspoken> {
        let own = Self::OWN;
        match own.speaks(max) {
            true => Ok(Self { max, ..own }),
            false => Err(Unspoken { asked: max }),
        }
    }

    /// The oldest and the newest, as they are written.
    #[must_use]
    pub const fn pair(self) -> (u16, u16) {
        (self.min, self.max)
    }

    /// The newest.
    #[must_use]
    pub fn max(self) -> u16 {
        self.max
    }

    /// Whether this version is among them.
    #[must_use]
    pub fn speaks(self, version: u16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// What is offered to a peer: nothing older than what the cluster agreed on. Who is too old itself says what it is.
    #[must_use]
    pub fn offered(self, agreed: u16) -> Self {
        match self.speaks(agreed) {
            true => Self { min: agreed, ..self },
            false => self,
        }
    }

    /// The newest version that both speak and that is not older than what the cluster agreed on.
    pub fn common(self, theirs: Self, agreed: u16) -> Result<u16, NoCommon> {
        let (newest, oldest) = (self.max.min(theirs.max), self.min.max(theirs.min).max(agreed));
        let ours = self;
        (oldest <= newest)
            .then_some(newest)
            .ok_or(NoCommon { ours, theirs, agreed })
    }
}

impl NoCommon {
    /// Whether the other one is the older.
    #[must_use]
    pub fn they_are_older(&self) -> bool {
        self.theirs.max < self.ours.max
    }
}

/// As `1 to 2`, or as `2`.
impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.min == self.max {
            true => write!(f, "{}", self.max),
            false => write!(f, "{} to {}", self.min, self.max),
        }
    }
}

/// What a node says of itself, if it makes sense.
impl TryFrom<(u16, u16)> for Versions {
    type Error = ();

    fn try_from((min, max): (u16, u16)) -> Result<Self, ()> {
        Self::new(min, max).ok_or(())
    }
}

/// What each side of a connection says first. A later release may say more behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Oldest and newest wire version it speaks.
    pub(crate) wire: (u16, u16),
}

impl Hello {
    /// What a node says that speaks these.
    pub(crate) fn of(versions: Versions) -> Self {
        Self { wire: versions.pair() }
    }

    /// Reads what the other side says.
    pub(crate) fn read(bytes: &[u8]) -> Option<Versions> {
        let hello: Self = postcard::from_bytes(bytes).ok()?;
        hello.wire.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn versions(min: u16, max: u16) -> Versions {
        Versions::new(min, max).unwrap()
    }

    #[test]
    fn the_highest_common_version_is_spoken_and_none_below_the_agreed_one() {
        let (old, mixed, new) = (versions(1, 1), versions(1, 2), versions(2, 3));
        assert_eq!(mixed.common(mixed, 1), Ok(2));
        assert_eq!(mixed.common(old, 1), Ok(1));
        assert_eq!(new.common(mixed, 1), Ok(2));
        let apart = new.common(old, 1).unwrap_err();
        assert!(apart.they_are_older());
        assert!(!old.common(new, 1).unwrap_err().they_are_older());
        assert!(mixed.common(old, 2).is_err(), "older than what was agreed on");
        assert!(old.common(old, 2).is_err(), "who is too old itself refuses as well");
    }

    #[test]
    fn nobody_offers_what_the_cluster_left_behind() {
        assert_eq!(versions(1, 2).offered(1), versions(1, 2));
        assert_eq!(versions(1, 2).offered(2), versions(2, 2));
        assert_eq!(versions(1, 1).offered(2), versions(1, 1), "it says what it is");
    }

    #[test]
    fn a_limit_is_a_version_of_this_software() {
        assert_eq!(Versions::up_to(1).map(Versions::pair), Ok((1, 1)));
        assert_eq!(Versions::up_to(2), Ok(Versions::OWN));
        let error = Versions::up_to(9).unwrap_err().to_string();
        assert_eq!(error, "this software speaks wire versions 1 to 2, not 9");
        assert!(Versions::up_to(0).is_err());
    }

    #[test]
    fn a_hello_without_sense_is_none_and_may_go_on() {
        let said = postcard::to_stdvec(&Hello::of(Versions::OWN)).unwrap();
        assert_eq!(Hello::read(&said), Some(Versions::OWN));
        assert_eq!(Hello::read(&[&said[..], b"more"].concat()), Some(Versions::OWN));
        for wire in [(0, 1), (2, 1), (1, 256)] {
            assert_eq!(Hello::read(&postcard::to_stdvec(&Hello { wire }).unwrap()), None);
        }
    }

    proptest! {
        #[test]
        fn both_ends_come_to_the_same(a in 1_u16..6, b in 0_u16..3, c in 1_u16..6, d in 0_u16..3, agreed in 1_u16..6) {
            let (one, two) = (versions(a, a + b), versions(c, c + d));
            let (here, there) = (one.common(two, agreed).ok(), two.common(one, agreed).ok());
            prop_assert_eq!(here, there);
            if let Some(version) = here {
                prop_assert!(one.speaks(version) && two.speaks(version) && version >= agreed);
                prop_assert!(!(one.speaks(version + 1) && two.speaks(version + 1)), "it is the highest");
            }
        }
    }
}
