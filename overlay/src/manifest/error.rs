//! What is wrong with a manifest, and where.

use std::fmt;
use std::sync::Arc;

use super::{DOCUMENTS_MAX, TEXT_MAX};
use crate::object::Kind;
use crate::object::kind::UnknownKind;

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, or what stands for it.
    pub file: Arc<str>,
    /// The document in it, from 1.
    pub document: Option<usize>,
    /// The line in the file, from 1.
    pub line: Option<usize>,
}

impl Place {
    /// The file as a whole.
    #[must_use]
    pub fn file(file: &Arc<str>) -> Self {
        Self {
            file: Arc::clone(file),
            document: None,
            line: None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(document) = self.document {
            write!(f, ": document {document}")?;
        }
        match (self.document, self.line) {
            (Some(_), Some(line)) => write!(f, ", line {line}"),
            (None, Some(line)) => write!(f, ": line {line}"),
            (_, None) => Ok(()),
        }
    }
}

/// One thing that is wrong with a manifest. Shown as `FILE: document N, line L: PATH: what`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// Where.
    pub place: Place,
    /// The field, as `spec.subnets[0]`; empty for the document as a whole.
    pub path: String,
    /// What.
    pub cause: Cause,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, path, cause } = self;
        if path.is_empty() {
            write!(f, "{place}: {cause}")
        } else {
            write!(f, "{place}: {path}: {cause}")
        }
    }
}

impl std::error::Error for ManifestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// What can be wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Larger than is read.
    #[error("{0} bytes are more than the {TEXT_MAX} that are read; split the file")]
    TooLarge(usize),
    /// More documents than are read.
    #[error("more than {DOCUMENTS_MAX} documents; split the file")]
    TooMany,
    /// Brackets in brackets in brackets.
    #[error("nested too deeply")]
    TooDeep,
    /// Not YAML or not JSON.
    #[error("{0}")]
    Syntax(String),
    /// A field that no object of the kind has.
    #[error("there is no field `{given}`; {}", meant(nearest.as_deref(), known))]
    UnknownField {
        /// As written.
        given: String,
        /// The known one that is most like it, if one is near.
        nearest: Option<String>,
        /// All that are known there.
        known: Vec<String>,
    },
    /// No such kind.
    #[error(transparent)]
    UnknownKind(#[from] UnknownKind),
    /// Must be there.
    #[error("missing field `{0}`")]
    Missing(&'static str),
    /// A Domain that says it is in another one.
    #[error("a Domain is its own domain: leave the field out or write {0:?}")]
    DomainOfDomain(String),
    /// A value that cannot be; the text says why.
    #[error("{0}")]
    Value(String),
    /// A kind's name in another spelling than manifests use.
    #[error("write the kind as {0}")]
    KindSpelling(Kind),
}

fn meant(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the fields there are `{}`", known.join("`, `")),
    }
}
