//! Documents of a YAML stream. The stream is parsed three times, in step: once for the line on which each document
//! begins, once for its kind, once for its fields with the types of that kind, so that errors keep their lines.

use super::document::{self, Failure};
use super::locate::{self, Step};
use super::{Cause, Reader};

pub(super) fn read(text: &str, reader: &mut Reader) {
    let heads = serde_norway::Deserializer::from_str(text);
    let bodies = serde_norway::Deserializer::from_str(text);
    let starts = serde_norway::Deserializer::from_str(text);
    for (index, ((head, body), start)) in heads.zip(bodies).zip(starts).enumerate() {
        let number = index + 1;
        if !reader.goes_on(number) {
            return;
        }
        let place = reader.place(number, locate::line(start, &[], line));
        let exact = |steps: &[Step]| locate::line(serde_norway::Deserializer::from_str(text).nth(index)?, steps, line);
        match document::kind(head, line) {
            Ok(None) => {}
            Ok(Some(kind)) => reader.take(place, document::object(kind, body, line), exact),
            // A stream does not go on behind a syntax error, and what is reported as a value may be one.
            Err(
                failure @ Failure {
                    cause: Cause::Value(_), ..
                },
            ) => return reader.take(place, Err(failure), |_| None),
            Err(failure) => reader.take(place, Err(failure), exact),
        }
    }
}

fn line(error: &serde_norway::Error) -> Option<usize> {
    Some(error.location()?.line())
}
