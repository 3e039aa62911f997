//! Raising the wire version by decree, and chains that were kept before there was one.

use proptest::prelude::*;

use super::chain::WINDOW;
use super::tests::founded;
use super::*;
use crate::fixture::Host;

fn sealed(standing: &Standing, act: Act, by: &Host) -> Sealed {
    let (decree, ballot) = (standing.next(act), Ballot::above(None, by.id()));
    let seals = vec![Seal::sign(by, ballot, &decree)];
    Sealed { decree, ballot, seals }
}

#[test]
fn the_version_rises_by_one_and_never_falls() {
    let host = Host::new(1);
    let standing = founded(&[&host]);
    assert_eq!(standing.wire(), 1);
    let next = standing.accept(&sealed(&standing, Act::RaiseWire(2), &host)).unwrap();
    assert_eq!((next.version(), next.wire()), (2, 2));
    assert_ne!(next.digest(), standing.digest());
    for wrong in [0, 1, 2, 4, u16::MAX] {
        assert_eq!(
            next.after(&next.next(Act::RaiseWire(wrong))),
            Err(Illegal::Wire(2, wrong))
        );
    }
    let unsealed = Sealed {
        seals: Vec::new(),
        ..sealed(&standing, Act::RaiseWire(2), &host)
    };
    assert_eq!(standing.accept(&unsealed), Err(Illegal::Seals(0, 1)));
    let other = next.after(&next.next(Act::AddAnchor(Host::new(2).public()))).unwrap();
    assert_eq!(other.wire(), 2, "what does not speak of it leaves it");
}

/// What software reads and writes that knows no wire version.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Former {
    base: Standing,
    steps: Vec<Sealed>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_kept_chain_knows_the_version_however_much_was_folded(before in 0_usize..4, behind in 0_usize..WINDOW + 9) {
        let host = Host::new(1);
        let mut chain = Chain::new(founded(&[&host]));
        let acts = |count: usize| (0..count).map(|n| match n % 2 {
            0 => Act::AddRoot(Bytes::from_static(b"other")),
            _ => Act::DropRoot(root_digest(b"other")),
        });
        let acts = acts(before * 2).chain([Act::RaiseWire(2)]).chain(acts(behind));
        for act in acts {
            let step = sealed(chain.now(), act, &host);
            prop_assert!(chain.take([&step]).changed);
        }
        prop_assert_eq!(chain.now().wire(), 2);
        let kept = postcard::to_stdvec(&chain.keep()).unwrap();
        let read: Kept = postcard::from_bytes(&kept).unwrap();
        prop_assert_eq!(&read, &chain.keep());
        let again = Chain::restore(read);
        prop_assert_eq!(again.now(), chain.now());
    }
}

#[test]
fn chains_are_read_across_releases() {
    let host = Host::new(1);
    let base = founded(&[&host]);
    let steps = vec![sealed(&base, Act::AddAnchor(Host::new(2).public()), &host)];
    let former = Former { base, steps };
    let bytes = postcard::to_stdvec(&former).unwrap();
    let read: Kept = postcard::from_bytes(&bytes).unwrap();
    let chain = Chain::restore(read);
    assert_eq!((chain.now().version(), chain.now().wire()), (2, 1));
    // The release before goes on with what this one wrote, while nothing but the first version was agreed on.
    let written = postcard::to_stdvec(&chain.keep()).unwrap();
    assert_eq!(postcard::from_bytes::<Former>(&written).ok(), Some(former));
}
