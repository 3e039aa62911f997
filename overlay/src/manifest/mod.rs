//! Manifests: what an operator writes, as YAML or JSON with many documents, to objects and back. Reading and writing
//! agree: what [`to_yaml`] and [`to_json`] write, [`parse`] reads as the same objects.
//!
//! A document has `kind`, `domain` (a Domain need not), `name` and `spec`, and may have the `version` that the object must
//! have to be changed; a `status` is read over, so that the output of `get` can be applied. Text is bounded by [`TEXT_MAX`]; depth is looked at before YAML is parsed; aliases in
//! YAML cannot multiply, since no list holds a list and what is read over is not expanded.

mod depth;
mod document;
pub mod error;
mod json;
mod locate;
mod yaml;

use std::sync::Arc;

use crate::object::Object;

pub use error::{Cause, ManifestError, Place};

/// Largest text, in bytes.
pub const TEXT_MAX: usize = 4 * 1024 * 1024;
/// Most documents in one text.
pub const DOCUMENTS_MAX: usize = 10_000;
/// Most errors that are collected before reading stops.
pub const ERRORS_MAX: usize = 100;

/// An object and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Where it begins.
    pub place: Place,
    /// What.
    pub object: Object,
    /// Which version of it the writer saw; whoever writes the object decides what that means.
    pub version: Option<String>,
}

/// Reads all documents of a text, or says what is wrong with each. `file` is what errors call it. The text is JSON if it
/// begins as only JSON does: with `{` and a quoted key, or with `[`; a JSON array is a list of documents.
pub fn parse(file: &str, text: &str) -> Result<Vec<Document>, Vec<ManifestError>> {
    // A byte order mark may stand before both (YAML 1.2 section 5.2; RFC 8259 section 8.1 lets readers skip it).
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file: Arc<str> = file.into();
    let mut reader = Reader {
        file,
        documents: Vec::new(),
        errors: Vec::new(),
    };
    if text.len() > TEXT_MAX {
        reader.fail(Place::file(&reader.file), Cause::TooLarge(text.len()));
    } else if json::looks_like(text) {
        json::read(text, &mut reader);
    } else if let Some(line) = depth::excess(text) {
        reader.fail(
            Place {
                line: Some(line),
                ..Place::file(&reader.file)
            },
            Cause::TooDeep,
        );
    } else {
        yaml::read(text, &mut reader);
    }
    if reader.errors.is_empty() {
        Ok(reader.documents)
    } else {
        Err(reader.errors)
    }
}

/// Writes objects as YAML, one document each.
#[must_use]
pub fn to_yaml<'a>(objects: impl IntoIterator<Item = &'a Object>) -> String {
    let documents = objects.into_iter().map(|object| {
        // The keys of an object are strings and its values plain; such a tree always has a YAML form.
        serde_norway::to_string(object).expect("strings, numbers, lists and maps of them have a YAML form")
    });
    documents.collect::<Vec<String>>().join("---\n")
}

/// Writes objects as a JSON array.
#[must_use]
pub fn to_json<'a>(objects: impl IntoIterator<Item = &'a Object>) -> String {
    let objects: Vec<&Object> = objects.into_iter().collect();
    // The keys of an object are strings and its values plain; such a tree always has a JSON form.
    serde_json::to_string_pretty(&objects).expect("strings, numbers, lists and maps of them have a JSON form")
}

/// Collects what is read.
struct Reader {
    file: Arc<str>,
    documents: Vec<Document>,
    errors: Vec<ManifestError>,
}

impl Reader {
    fn place(&self, document: usize, line: Option<usize>) -> Place {
        Place {
            file: Arc::clone(&self.file),
            document: Some(document),
            line,
        }
    }

    /// Takes what a document became. `exact` finds the line of a field better than the parser's error does.
    fn take(
        &mut self,
        place: Place,
        result: Result<document::Said, document::Failure>,
        exact: impl FnOnce(&[locate::Step]) -> Option<usize>,
    ) {
        match result {
            Ok(document::Said { object, version }) => self.documents.push(Document { place, object, version }),
            Err(failure) => {
                let line = exact(&failure.steps).or(failure.line);
                let path = locate::show(&failure.steps);
                self.errors.push(ManifestError {
                    place: Place { line, ..place },
                    path,
                    cause: failure.cause,
                });
            }
        }
    }

    fn fail(&mut self, place: Place, cause: Cause) {
        self.errors.push(ManifestError {
            place,
            path: String::new(),
            cause,
        });
    }

    /// Whether another document may be read; says so if there is one too many.
    fn goes_on(&mut self, document: usize) -> bool {
        if document > DOCUMENTS_MAX {
            self.fail(self.place(document, None), Cause::TooMany);
        }
        document <= DOCUMENTS_MAX && self.errors.len() < ERRORS_MAX
    }
}

#[cfg(test)]
mod tests;
