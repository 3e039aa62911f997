//! What reads bytes from outside, as functions of bytes alone: for fuzzers (`tests/fuzz`) and for the test that replays
//! their corpus. Nothing else uses it. What a target reads it writes again and reads the same.

use membership::record::Body;

use crate::fact::{AddressClaim, Attachment, Content, Vtep};
use crate::manifest;
use crate::object::{Kind, Spec};

/// A function of any bytes.
pub type Target = fn(&[u8]);

/// All of them with the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("overlay-manifest", manifest),
    ("overlay-object", object),
    ("overlay-fact", fact),
];

/// Manifests as operators write them.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(documents) = manifest::parse("fuzz", text) else {
        return;
    };
    let objects: Vec<_> = documents.into_iter().map(|document| document.object).collect();
    let again = manifest::parse("again", &manifest::to_yaml(&objects)).unwrap_or_default();
    let again: Vec<_> = again.into_iter().map(|document| document.object).collect();
    assert_eq!(again, objects);
}

/// A version, then a value.
fn body(bytes: &[u8]) -> Option<Body> {
    let (version, value) = bytes.split_first()?;
    Some(Body {
        version: u16::from(*version),
        bytes: value.to_vec().into(),
    })
}

/// Bodies of records of every kind of object.
pub fn object(bytes: &[u8]) {
    let Some(body) = body(bytes) else { return };
    for kind in Kind::ALL {
        if let Ok(spec) = Spec::decode(kind, &body) {
            assert_eq!(Spec::decode(kind, &spec.encode()), Ok(spec));
        }
    }
}

/// Bodies of facts.
pub fn fact(bytes: &[u8]) {
    fn same<T: Content + PartialEq + std::fmt::Debug>(body: &Body) {
        if let Ok(said) = T::decode(body) {
            assert_eq!(said.encode().and_then(|body| T::decode(&body)), Ok(said));
        }
    }
    let Some(body) = body(bytes) else { return };
    same::<Vtep>(&body);
    same::<Attachment>(&body);
    same::<AddressClaim>(&body);
}

#[cfg(test)]
#[path = "../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples that are shipped are valid, and have every field.
    const EXAMPLES: [&str; 3] = [
        include_str!("../../deploy/examples/demo.yaml"),
        include_str!("../../deploy/examples/fields.yaml"),
        include_str!("../../deploy/examples/routed.yaml"),
    ];

    fn bytes(body: &Body) -> Vec<u8> {
        [&[u8::try_from(body.version).unwrap()][..], &body.bytes].concat()
    }

    fn objects() -> Vec<Vec<u8>> {
        let documents = EXAMPLES
            .iter()
            .flat_map(|text| manifest::parse("example", text).unwrap());
        let mut bodies: Vec<_> = documents
            .map(|document| bytes(&document.object.spec.encode()))
            .collect();
        bodies.sort();
        bodies.dedup();
        bodies
    }

    fn facts() -> Vec<Vec<u8>> {
        let vtep = Vtep {
            ipv4: Some([192, 0, 2, 1].into()),
            ipv6: Some("2001:db8::1".parse().unwrap()),
            port: 4789,
            underlay_mtu: 1500,
        };
        vec![bytes(&vtep.encode().unwrap())]
    }

    #[test]
    fn no_target_fails_on_its_corpus_nor_near_it() {
        for (name, target) in TARGETS {
            let made = match *name {
                "overlay-manifest" => EXAMPLES.iter().map(|text| text.as_bytes().to_vec()).collect(),
                "overlay-object" => objects(),
                "overlay-fact" => facts(),
                other => panic!("no inputs for {other}"),
            };
            replay::replay(name, *target, made);
        }
    }
}
