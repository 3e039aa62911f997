//! Versions of objects as clients name them, and what a client may ask of a version before its write is done (RFC 9110
//! section 13): in the headers `If-Match` and `If-None-Match`, on the command line as `--if-version`.

use std::fmt;
use std::str::FromStr;

use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName};
use membership::record::Digest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::ApiError;

/// Hexadecimal digits of a version behind its `v`.
const DIGITS: usize = 16;
/// Most versions in one header.
const LISTED_MAX: usize = 16;

/// Names what was written: `v` and 16 hexadecimal digits. An object whose versions disagree has one of its own, made from
/// all of them, so that who names it has seen all of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "v5f0e2c9a7b114d32")]
pub struct Version(String);

/// A text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no version: it is v and 16 hexadecimal digits, as `fabricctl get … -o yaml` and `fabricctl history` show it"
)]
pub struct NotAVersion(String);

impl Version {
    /// The version that this digest stands for.
    #[must_use]
    pub fn of(digest: Digest) -> Self {
        let text = digest.to_string();
        Self(format!("v{}", text.get(..DIGITS).unwrap_or(&text)))
    }

    /// As it stands in `ETag`.
    #[must_use]
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let digits = text.strip_prefix('v').filter(|digits| digits.len() == DIGITS);
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match digits {
            Some(digits) if digits.bytes().all(hex) => Ok(Self(text.to_owned())),
            Some(_) | None => Err(NotAVersion(text.chars().take(2 * DIGITS).collect())),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = NotAVersion;

    fn try_from(text: String) -> Result<Self, NotAVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}

/// What must hold of an object for a write of it to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// It has one of these versions.
    Version(Vec<Version>),
    /// It is there, whatever it says.
    Present,
    /// It is not there, on no node that this one has heard of.
    Absent,
}

impl Precondition {
    /// What the headers of a request ask. Weak tags never match a write, and are refused.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let (matching, none) = (all(headers, &IF_MATCH)?, all(headers, &IF_NONE_MATCH)?);
        match (matching.as_deref(), none.as_deref()) {
            (None, None) => Ok(None),
            (None, Some("*")) => Ok(Some(Self::Absent)),
            (Some("*"), None) => Ok(Some(Self::Present)),
            (Some(tags), None) => tags.parse().map(Some),
            (_, Some(_)) => Err(ApiError::bad_request(
                "of If-None-Match only * is known here (the object must not be there), and not together with If-Match",
            )),
        }
    }

    /// As headers of a request.
    #[must_use]
    pub fn header(&self) -> (HeaderName, String) {
        match self {
            Self::Version(versions) => {
                let tags: Vec<String> = versions.iter().map(Version::etag).collect();
                (IF_MATCH, tags.join(", "))
            }
            Self::Present => (IF_MATCH, "*".to_owned()),
            Self::Absent => (IF_NONE_MATCH, "*".to_owned()),
        }
    }
}

/// What `--if-version` takes.
impl Precondition {
    /// A version, or `none` for an object that must not be there.
    pub fn typed(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::Absent),
            version => match version.parse() {
                Ok(version) => Ok(Self::Version(vec![version])),
                Err(error) => Err(format!(
                    "{error}; or write none for an object that must not be there yet"
                )),
            },
        }
    }
}

/// The tags of `If-Match`.
impl FromStr for Precondition {
    type Err = ApiError;

    fn from_str(tags: &str) -> Result<Self, ApiError> {
        let wrong = |tag: &str| {
            let tag: String = tag.chars().take(64).collect();
            ApiError::bad_request(format!(
                "If-Match: {tag} is no tag that an object has; write the ETag of `GET /v1/domains/DOMAIN/KIND/NAME` with its quotes"
            ))
        };
        let tags: Vec<&str> = tags.split(',').map(str::trim).collect();
        if tags.len() > LISTED_MAX {
            return Err(ApiError::bad_request(format!("If-Match: more than {LISTED_MAX} tags")));
        }
        let version = |tag: &&str| {
            let bare = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            bare.and_then(|bare| bare.parse().ok()).ok_or_else(|| wrong(tag))
        };
        tags.iter().map(version).collect::<Result<_, _>>().map(Self::Version)
    }
}

/// All values of a header as one list (RFC 9110 section 5.3).
fn all(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, ApiError> {
    let mut values = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str();
        values.push(text.map_err(|_| ApiError::bad_request(format!("{name}: it is no text")))?);
    }
    Ok((!values.is_empty()).then(|| values.join(",")))
}

impl fmt::Display for Precondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(versions) => {
                let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
                f.write_str(&versions.join(" or "))
            }
            Self::Present => f.write_str("any version"),
            Self::Absent => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error::Code;

    const A: &str = "v0123456789abcdef";
    const B: &str = "vfedcba9876543210";

    fn of(headers: &[(&HeaderName, &str)]) -> Result<Option<Precondition>, Code> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header"));
        }
        Precondition::of(&map).map_err(|error| error.code)
    }

    #[test]
    fn headers_say_what_must_hold() {
        let (a, b): (Version, Version) = (A.parse().expect("good"), B.parse().expect("good"));
        let [a_tag, b_tag] = [a.etag(), b.etag()];
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[(&IF_MATCH, "*")]), Ok(Some(Precondition::Present)));
        assert_eq!(of(&[(&IF_NONE_MATCH, "*")]), Ok(Some(Precondition::Absent)));
        let both = Precondition::Version(vec![a.clone(), b]);
        let listed = format!("{a_tag}, {b_tag}");
        assert_eq!(of(&[(&IF_MATCH, &listed)]), Ok(Some(both.clone())));
        assert_eq!(of(&[(&IF_MATCH, &a_tag), (&IF_MATCH, &b_tag)]), Ok(Some(both.clone())));
        let (name, value) = both.header();
        assert_eq!(of(&[(&name, &value)]), Ok(Some(both)));
        let many = vec![a_tag.as_str(); LISTED_MAX + 1].join(",");
        for wrong in [
            A,
            "",
            "\"\"",
            "W/\"v0123456789abcdef\"",
            "\"v0123456789ABCDEF\"",
            many.as_str(),
        ] {
            assert_eq!(of(&[(&IF_MATCH, wrong)]), Err(Code::BadRequest), "{wrong}");
        }
        assert_eq!(of(&[(&IF_NONE_MATCH, &a_tag)]), Err(Code::BadRequest));
        assert_eq!(of(&[(&IF_MATCH, "*"), (&IF_NONE_MATCH, "*")]), Err(Code::BadRequest));
    }

    #[test]
    fn a_version_is_typed_as_it_is_shown() {
        assert_eq!(Precondition::typed("none"), Ok(Precondition::Absent));
        let version: Version = A.parse().expect("good");
        assert_eq!(Precondition::typed(A), Ok(Precondition::Version(vec![version])));
        for wrong in ["", "v", "0123456789abcdef", "v0123456789abcde", "v0123456789abcdeff"] {
            assert!(Precondition::typed(wrong).is_err(), "{wrong}");
        }
        let digest = Digest::of(&[b"a"]);
        assert!(digest.to_string().starts_with(&Version::of(digest).to_string()[1..]));
    }
}
