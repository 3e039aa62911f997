//! What peers say to each other about their replicas: one message per frame, a version byte and postcard. A frame is
//! decoded only if it is whole and within bounds; nothing is allocated from a length that the frame does not fill. Which
//! messages there are depends on the version; the form of a message never changes, so that a frame may be passed on under
//! another version. [`versions`] decides which version two nodes speak.

#[cfg(test)]
mod golden;
pub mod versions;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::versions::FIRST;
pub use self::versions::Versions;
use crate::batch::RawFacts;
use crate::id::{NodeId, Scope};
use crate::record::{Digest, VersionVector};
use crate::signed::Raw;

/// Largest frame, in bytes.
pub const FRAME_MAX: usize = 1024 * 1024;

/// Since this version a node is told by others that they do not take its records.
pub(crate) const SINCE_NOT_TAKEN: u16 = 2;
/// Most bytes of the reason in [`Message::NotTaken`].
const REASON_MAX: usize = 200;

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
    /// "What you signed I do not take in, for this reason." Since version 2.
    NotTaken { why: String },
}

impl Message {
    /// The first version that has this message.
    fn since(&self) -> u16 {
        match self {
            Self::Hello { .. }
            | Self::Roots(_)
            | Self::Pull(_)
            | Self::Detail { .. }
            | Self::Part(_)
            | Self::Push(_) => FIRST,
            Self::NotTaken { .. } => SINCE_NOT_TAKEN,
        }
    }
}

/// Another node's words, as far as they are worth showing.
pub(crate) fn plain(words: &str) -> String {
    let shown = words.chars().filter(|c| !c.is_control());
    shown.take(REASON_MAX).collect()
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
    #[error("a frame has wire version {0}, this node speaks {1}")]
    Version(u8, Versions),
    #[error("a frame is malformed")]
    Malformed,
}

/// The frame of a message, in the first version that has it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn encode(message: &Message) -> Result<Bytes, FrameError> {
    encode_as(message, message.since())
}

/// The frame of a message in this version, which must have it.
pub(crate) fn encode_as(message: &Message, version: u16) -> Result<Bytes, FrameError> {
    if version < message.since() {
        return Err(FrameError::Malformed);
    }
    let version = u8::try_from(version).map_err(|_| FrameError::Malformed)?;
    let frame = postcard::to_extend(message, vec![version]).map_err(|_| FrameError::Malformed)?;
    if frame.len() > FRAME_MAX {
        return Err(FrameError::TooLarge(frame.len()));
    }
    Ok(frame.into())
}

/// The same message under another version, which must have it.
pub(crate) fn relabel(frame: &Bytes, version: u16) -> Bytes {
    match (frame.split_first(), u8::try_from(version)) {
        (Some((&labelled, message)), Ok(version)) if labelled != version => [&[version], message].concat().into(),
        _ => frame.clone(),
    }
}

/// The message in a frame of any version that this software speaks.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn decode(frame: &[u8]) -> Result<Message, FrameError> {
    decode_as(frame, Versions::OWN)
}

/// The message in a frame of one of these versions.
pub(crate) fn decode_as(frame: &[u8], spoken: Versions) -> Result<Message, FrameError> {
    if frame.len() > FRAME_MAX {
        return Err(FrameError::TooLarge(frame.len()));
    }
    match frame {
        [version, message @ ..] if spoken.speaks((*version).into()) => match postcard::take_from_bytes(message) {
            Ok((message, [])) if Message::since(&message) <= (*version).into() => Ok(message),
            _ => Err(FrameError::Malformed),
        },
        [version, ..] => Err(FrameError::Version(*version, spoken)),
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
        assert_eq!(decode(&[9, 0]), Err(FrameError::Version(9, Versions::OWN)));
        assert_eq!(
            decode(&vec![1; FRAME_MAX + 1]),
            Err(FrameError::TooLarge(FRAME_MAX + 1))
        );
    }

    #[test]
    fn each_version_has_its_messages() {
        let message = Message::NotTaken { why: "so".to_owned() };
        let frame = encode(&message).unwrap();
        assert_eq!(decode(&frame), Ok(message.clone()));
        assert_eq!(encode_as(&message, 1), Err(FrameError::Malformed));
        assert_eq!(
            decode(&relabel(&frame, 1)),
            Err(FrameError::Malformed),
            "version 1 has it not"
        );
        let old = Versions::up_to(1).unwrap();
        assert_eq!(decode_as(&frame, old), Err(FrameError::Version(2, old)));
        let root = Digest::of(&[b"root"]);
        let hello = encode_as(&Message::Hello { root }, 2).unwrap();
        assert_eq!(hello[0], 2);
        assert_eq!(decode_as(&relabel(&hello, 1), old), Ok(Message::Hello { root }));
        assert_eq!(relabel(&relabel(&hello, 1), 2), hello);
    }

    #[test]
    fn words_of_others_are_short_and_plain() {
        assert_eq!(plain("a\u{1b}[31mb\n"), "a[31mb");
        assert_eq!(plain(&"ä".repeat(1_000)).chars().count(), REASON_MAX);
    }

    #[test]
    fn a_huge_length_without_its_bytes_is_malformed() {
        // Roots, with 2^63 entries announced.
        let frame = [1, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1];
        assert_eq!(decode(&frame), Err(FrameError::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(mut frame in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = frame.first_mut() {
                *first = 1 + *first % 2;
            }
            if let Ok(message) = decode(&frame) {
                prop_assert!(encode(&message).is_ok());
            }
        }
    }
}
