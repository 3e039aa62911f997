//! Documents of a JSON text: one, several behind each other, or an array of them.

use serde_json::value::RawValue;

use super::document;
use super::locate;
use super::{Cause, Reader};

/// Whether the text begins as only JSON does.
pub(super) fn looks_like(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with('[')
        || text
            .strip_prefix('{')
            .is_some_and(|rest| rest.trim_start().starts_with(['"', '}']))
}

pub(super) fn read(text: &str, reader: &mut Reader) {
    let mut number = 0;
    for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let values = match value.and_then(elements) {
            Ok(values) => values,
            Err(error) => {
                let place = reader.place(number + 1, Some(error.line()));
                return reader.fail(place, Cause::Syntax(error.to_string()));
            }
        };
        for raw in values {
            number += 1;
            if !reader.goes_on(number) {
                return;
            }
            document(text, raw, number, reader);
        }
    }
}

fn elements(value: &RawValue) -> serde_json::Result<Vec<&RawValue>> {
    if value.get().starts_with('[') {
        serde_json::from_str(value.get())
    } else {
        Ok(vec![value])
    }
}

fn document(text: &str, raw: &RawValue, number: usize, reader: &mut Reader) {
    // Both are parts of one text, so the distance of their starts is the raw value's offset in it.
    let offset = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let before = text
        .as_bytes()
        .get(..offset)
        .unwrap_or_default()
        .iter()
        .filter(|c| **c == b'\n')
        .count();
    let line = |error: &serde_json::Error| Some(before + error.line());
    let place = reader.place(number, Some(before + 1));
    let parser = || serde_json::Deserializer::from_str(raw.get());
    let result = match document::kind(&mut parser(), line) {
        Ok(None) => return,
        Ok(Some(kind)) => document::object(kind, &mut parser(), line),
        Err(failure) => Err(failure),
    };
    reader.take(place, result, |steps| locate::line(&mut parser(), steps, line));
}
