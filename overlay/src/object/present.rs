//! A field that is written has a value: `from:` with nothing behind it is a slip of the pen, and to read it as if the
//! field were not there would let anybody in.

use serde::{Deserialize, Deserializer, de::Error as _};

use super::SpecError;

/// Reads a field that is not null.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer)?.ok_or_else(|| D::Error::custom(SpecError::Null))
}

/// The same for a field that may be left out.
pub(super) fn optional<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    present(deserializer).map(Some)
}
