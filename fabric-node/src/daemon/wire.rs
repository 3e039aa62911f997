//! What nodes ask each other through membership's opaque calls: a version byte, then postcard.

use bytes::Bytes;
use membership::service::Mark;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of the questions and answers.
const VERSION: u8 = 1;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Answer when what the marks name is in force, or after this time.
    AwaitProgrammed {
        /// What was written.
        marks: Vec<Mark>,
        /// Bounded by the answering node as well.
        millis: u32,
    },
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Response {
    /// It is in force.
    Programmed,
    /// It was not within the time.
    NotYet,
}

/// Why bytes are no question or answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    /// Sent by another release.
    #[error("version {0} of calls is not known; upgrade all nodes")]
    Version(u8),
    /// Cut or damaged.
    #[error("a damaged call")]
    Damaged,
}

pub(super) fn encode(value: &impl Serialize) -> Result<Bytes, WireError> {
    postcard::to_extend(value, vec![VERSION])
        .map(Bytes::from)
        .map_err(|_| WireError::Damaged)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((value, [])) => Ok(value),
            Ok(_) | Err(_) => Err(WireError::Damaged),
        },
        Some((&version, _)) => Err(WireError::Version(version)),
        None => Err(WireError::Damaged),
    }
}

/// Reads a question and an answer of any bytes, for fuzzers.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_call(bytes: &[u8]) {
    let _answer = decode::<Response>(bytes);
    if let Ok(question) = decode::<Request>(bytes) {
        let again = encode(&question).and_then(|bytes| decode(&bytes));
        assert_eq!(again, Ok(question));
    }
}

#[cfg(test)]
pub(crate) fn a_call() -> Vec<u8> {
    let millis = 1000;
    let marks = Vec::new();
    encode(&Request::AwaitProgrammed { marks, millis })
        .expect("encoded")
        .to_vec()
}

#[cfg(test)]
mod tests {
    use membership::id::{NodeId, Scope};

    use super::*;

    #[test]
    fn what_is_asked_is_read_and_nothing_else() {
        let origin = NodeId::of_key(&[1; 32]);
        let mark = Mark::Facts {
            origin,
            scope: Scope::Domain("red".parse().expect("a label")),
            epoch: 1,
            seq: 7,
        };
        let request = Request::AwaitProgrammed {
            marks: vec![mark],
            millis: 1000,
        };
        let bytes = encode(&request).expect("encoded");
        assert_eq!(decode::<Request>(&bytes), Ok(request));
        for length in 0..bytes.len() {
            assert!(decode::<Request>(&bytes[..length]).is_err(), "cut at {length}");
        }
        assert_eq!(decode::<Request>(&[&bytes[..], &[0]].concat()), Err(WireError::Damaged));
        assert_eq!(decode::<Response>(&[9, 0]), Err(WireError::Version(9)));
    }
}
