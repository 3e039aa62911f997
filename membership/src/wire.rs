//! What peers say to each other about their replicas: one message per frame, a version byte and postcard. A frame is
//! decoded only if it is whole and within bounds; nothing is allocated from a length that the frame does not fill.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::batch::RawFacts;
use crate::id::{NodeId, Scope};
use crate::record::{Digest, VersionVector};
use crate::signed::Raw;

/// Largest frame, in bytes.
pub const FRAME_MAX: usize = 1024 * 1024;

/// The one version of the wire format.
const VERSION: u8 = 1;

/// The first half of a digest: enough to see a difference, half the bytes.
pub(crate) type Short = [u8; 16];

pub(crate) fn short(digest: &Digest) -> Short {
    let mut short = Short::default();
    let len = short.len();
    short.copy_from_slice(&digest.0[..len]);
    short
}

/// One frame's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// "This is my root of roots; tell me your roots if yours differs."
    Hello { root: Digest },
    /// The roots of the sender's scopes, `System` first.
    Roots(Vec<(Scope, Digest)>),
    /// "Send me what I lack of a scope."
    Pull(Pull),
    /// "We differ in these buckets: pull again and list them." `id` is the pull's.
    Detail { id: u64, buckets: Vec<u8> },
    /// A part of the answer to a pull.
    Part(Part),
    /// A batch that was just written.
    Push(RawBatch),
}

/// What the sender holds of a scope, so that the receiver sees what it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pull {
    /// Chosen by the sender; the parts of the answer carry it.
    pub(crate) id: u64,
    pub(crate) scope: Scope,
    /// The heads of the origins it holds.
    pub(crate) vector: Vec<Have>,
    /// The sums of its buckets, those left out that hold nothing.
    pub(crate) sums: Vec<(u8, Short)>,
    /// What is in some buckets. A bucket without a sum needs no list.
    pub(crate) listed: Vec<Listed>,
    /// Differing buckets that are not listed are left for another time.
    pub(crate) partial: bool,
    /// The receiver may pull in return if the sender holds what it lacks.
    pub(crate) back: bool,
}

/// The head that is held of an origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Have {
    pub(crate) origin: NodeId,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) head: Digest,
}

/// The objects in one bucket: hash of the key, hash of its versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) bucket: u8,
    pub(crate) objects: Vec<(Short, Short)>,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Of the pull it answers.
    pub(crate) id: u64,
    /// 0, 1, 2, ….
    pub(crate) index: u32,
    /// No part follows.
    pub(crate) last: bool,
    /// The answer was cut at its limit: pull again for the rest.
    pub(crate) more: bool,
    pub(crate) items: Vec<Item>,
}

/// One record of an answer. The facts of an origin follow its head, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Item {
    Head(Raw),
    Fact(Raw),
    Intent(Raw),
}

impl Item {
    pub(crate) fn len(&self) -> usize {
        let (Self::Head(raw) | Self::Fact(raw) | Self::Intent(raw)) = self;
        raw.len()
    }
}

/// A batch as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RawBatch {
    Facts(RawFacts),
    /// `after` is what the writer had seen of the scope: who has not must not see these alone.
    Intents {
        scope: Scope,
        after: VersionVector,
        versions: Vec<Raw>,
    },
}

/// Why a frame is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes is larger than {FRAME_MAX}")]
    TooLarge(usize),
    #[error("a frame has wire version {0}, known is {VERSION}")]
    Version(u8),
    #[error("a frame is malformed")]
    Malformed,
}

/// The frame of a message.
pub(crate) fn encode(message: &Message) -> Result<Bytes, FrameError> {
    let frame = postcard::to_extend(message, vec![VERSION]).map_err(|_| FrameError::Malformed)?;
    if frame.len() > FRAME_MAX {
        return Err(FrameError::TooLarge(frame.len()));
    }
    Ok(frame.into())
}

/// The message in a frame.
pub(crate) fn decode(frame: &[u8]) -> Result<Message, FrameError> {
    if frame.len() > FRAME_MAX {
        return Err(FrameError::TooLarge(frame.len()));
    }
    match frame {
        [VERSION, message @ ..] => match postcard::take_from_bytes(message) {
            Ok((message, [])) => Ok(message),
            _ => Err(FrameError::Malformed),
        },
        [version, ..] => Err(FrameError::Version(*version)),
        [] => Err(FrameError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_survives_its_frame_and_nothing_may_follow_it() {
        let message = Message::Detail {
            id: 7,
            buckets: vec![0, 255],
        };
        let frame = encode(&message).unwrap();
        assert_eq!(decode(&frame), Ok(message));
        assert_eq!(decode(&[&frame[..], &[0]].concat()), Err(FrameError::Malformed));
        assert_eq!(decode(&frame[..frame.len() - 1]), Err(FrameError::Malformed));
        assert_eq!(decode(&[9, 0]), Err(FrameError::Version(9)));
        assert_eq!(
            decode(&vec![VERSION; FRAME_MAX + 1]),
            Err(FrameError::TooLarge(FRAME_MAX + 1))
        );
    }

    #[test]
    fn a_huge_length_without_its_bytes_is_malformed() {
        // Roots, with 2^63 entries announced.
        let frame = [VERSION, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1];
        assert_eq!(decode(&frame), Err(FrameError::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(mut frame in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = frame.first_mut() {
                *first = VERSION;
            }
            if let Ok(message) = decode(&frame) {
                prop_assert!(encode(&message).is_ok());
            }
        }
    }
}
