//! Writes an answer as table, JSON or YAML.

use std::io::{self, Write};

use serde::Serialize;

use super::args::Output;
use super::problem::Problem;

/// Writes `value`; `table` makes the form for people.
pub(super) fn show<T: Serialize>(
    out: &mut impl Write,
    output: Output,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Problem> {
    match output {
        Output::Table => write!(out, "{}", with_end(table(value)))?,
        Output::Json => writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(value).map_err(io::Error::other)?
        )?,
        Output::Yaml => write!(out, "{}", serde_norway::to_string(value).map_err(io::Error::other)?)?,
    }
    out.flush()?;
    Ok(())
}

/// Writes objects as YAML documents, the form in which `apply` reads many.
pub(super) fn documents<T: Serialize>(out: &mut impl Write, values: &[T]) -> Result<(), Problem> {
    for (index, value) in values.iter().enumerate() {
        let mark = if index == 0 { "" } else { "---\n" };
        write!(
            out,
            "{mark}{}",
            serde_norway::to_string(value).map_err(io::Error::other)?
        )?;
    }
    out.flush()?;
    Ok(())
}

fn with_end(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
