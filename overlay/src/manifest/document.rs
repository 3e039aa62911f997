//! One document to one object, whatever syntax it came in: the deserializer brings the syntax, and `line` takes the line
//! from its errors.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_path_to_error::Segment;

use membership::id::Label;

use super::Cause;
use super::locate::{self, Step};
use crate::near;
use crate::object::{DomainSpec, EndpointSpec, Kind, NetworkSpec, Object, RouterSpec, SecurityPolicySpec, Spec};

/// Why a document is no object, and the way to the field. `line` is the parser's, which may be that of a list or map
/// around the field.
pub(super) struct Failure {
    pub(super) steps: Vec<Step>,
    pub(super) line: Option<usize>,
    pub(super) cause: Cause,
}

impl Failure {
    fn at(key: &str, cause: Cause) -> Self {
        Self {
            steps: vec![Step::Key(key.to_owned())],
            line: None,
            cause,
        }
    }

    fn whole(cause: Cause) -> Self {
        Self {
            steps: Vec::new(),
            line: None,
            cause,
        }
    }
}

/// What a document says.
pub(super) struct Said {
    pub(super) object: Object,
    pub(super) version: Option<String>,
}

/// What says how to read the rest.
#[derive(Deserialize)]
#[serde(expecting = "a document with the fields kind, domain, name and spec")]
struct Head {
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a document with the fields kind, domain, name and spec"
)]
struct Raw<S> {
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    domain: Option<Label>,
    name: Label,
    version: Option<String>,
    spec: Option<S>,
    #[serde(rename = "status", default)]
    _status: IgnoredAny,
}

/// The kind of a document; none if it is empty.
pub(super) fn kind<'de, D: Deserializer<'de>>(
    deserializer: D,
    line: impl Fn(&D::Error) -> Option<usize>,
) -> Result<Option<Kind>, Failure> {
    let Some(head) = typed::<Option<Head>, D>(deserializer, line)? else {
        return Ok(None);
    };
    let text = head.kind.ok_or_else(|| Failure::whole(Cause::Missing("kind")))?;
    let kind: Kind = text
        .parse()
        .map_err(|error| Failure::at("kind", Cause::UnknownKind(error)))?;
    if text == kind.as_str() {
        Ok(Some(kind))
    } else {
        Err(Failure::at("kind", Cause::KindSpelling(kind)))
    }
}

/// What a document of this kind says.
pub(super) fn object<'de, D: Deserializer<'de>>(
    kind: Kind,
    deserializer: D,
    line: impl Fn(&D::Error) -> Option<usize>,
) -> Result<Said, Failure> {
    match kind {
        Kind::Domain => domain(typed(deserializer, line)?),
        Kind::Network => inside(typed::<Raw<NetworkSpec>, D>(deserializer, line)?, Spec::Network),
        Kind::Endpoint => inside(typed::<Raw<EndpointSpec>, D>(deserializer, line)?, Spec::Endpoint),
        Kind::Router => inside(typed::<Raw<RouterSpec>, D>(deserializer, line)?, Spec::Router),
        Kind::SecurityPolicy => inside(
            typed::<Raw<SecurityPolicySpec>, D>(deserializer, line)?,
            Spec::SecurityPolicy,
        ),
    }
}

fn domain(raw: Raw<DomainSpec>) -> Result<Said, Failure> {
    if raw.domain.is_some_and(|domain| domain != raw.name) {
        return Err(Failure::at("domain", Cause::DomainOfDomain(raw.name.to_string())));
    }
    let object = Object {
        domain: raw.name.clone(),
        name: raw.name,
        spec: Spec::Domain(raw.spec.unwrap_or_default()),
    };
    Ok(Said {
        object,
        version: raw.version,
    })
}

fn inside<S>(raw: Raw<S>, spec: fn(S) -> Spec) -> Result<Said, Failure> {
    let domain = raw.domain.ok_or_else(|| Failure::whole(Cause::Missing("domain")))?;
    let content = raw.spec.ok_or_else(|| Failure::whole(Cause::Missing("spec")))?;
    let object = Object {
        domain,
        name: raw.name,
        spec: spec(content),
    };
    Ok(Said {
        object,
        version: raw.version,
    })
}

fn typed<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
    line: impl Fn(&D::Error) -> Option<usize>,
) -> Result<T, Failure> {
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let steps = steps(error.path());
        let (line, message) = (
            line(error.inner()),
            plain(&error.inner().to_string(), &locate::show(&steps)),
        );
        Failure {
            steps,
            line,
            cause: cause(message),
        }
    })
}

fn steps(path: &serde_path_to_error::Path) -> Vec<Step> {
    let known = path.iter().map_while(|segment| match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } | Segment::Enum { variant: key } => Some(Step::Key(key.clone())),
        Segment::Unknown => None,
    });
    known.collect()
}

/// A parser's message without the path (or the part of it that the parser knows) and the place, which stand apart.
fn plain(message: &str, path: &str) -> String {
    let message = match message.split_once(": ") {
        Some((head, rest)) if path.starts_with(head) => rest,
        Some(_) | None => message,
    };
    match message.rfind(" at line ") {
        Some(end) if message[end..].contains("column") => message[..end].to_owned(),
        Some(_) | None => message.to_owned(),
    }
}

/// Makes serde's unknown-field message ours. Should its form change, the message is shown as it is.
fn cause(message: String) -> Cause {
    let Some((given, known)) = unknown_field(&message) else {
        return Cause::Value(message);
    };
    let nearest = near::nearest(given, known.iter().copied());
    Cause::UnknownField {
        given: given.to_owned(),
        nearest: nearest.map(str::to_owned),
        known: known.into_iter().map(str::to_owned).collect(),
    }
}

/// Takes "unknown field `a`, expected `b`" or "…, expected one of `b`, `c`" apart.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let (given, rest) = message.strip_prefix("unknown field `")?.split_once("`, expected ")?;
    Some((given, rest.split('`').skip(1).step_by(2).collect()))
}
