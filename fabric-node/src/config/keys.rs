//! The keys of the file, and which one was probably meant by one that is not among them.

use std::fmt;

use toml::de::{DeTable, DeValue};

/// Every key by section.
const KEYS: &[(&str, &[&str])] = &[
    ("node", &["name", "data", "stop_timeout"]),
    ("mesh", &["listen", "advertise"]),
    ("wire", &["max"]),
    ("underlay", &["ipv4", "ipv6", "port", "geneve_port", "strict_vxlan"]),
    ("api", &["socket", "group", "https"]),
    ("datapath", &["bpffs"]),
    ("log", &["format", "level"]),
];

/// A key that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    line: usize,
    written: String,
    nearest: String,
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.written.starts_with('[') {
            "section"
        } else {
            "key"
        };
        write!(
            f,
            "{}: unknown {what} {}; did you mean {}?",
            self.line, self.written, self.nearest
        )
    }
}

/// Every (section, key).
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter()
        .flat_map(|(section, keys)| keys.iter().map(move |key| (*section, *key)))
}

/// The first key of the file that does not exist.
pub(super) fn first_unknown(text: &str, table: &DeTable<'_>) -> Option<UnknownKey> {
    let line = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
    let mut found: Vec<(usize, UnknownKey)> = Vec::new();
    for (name, value) in table.iter() {
        let at = name.span().start;
        match (
            KEYS.iter().find(|(section, _)| section == name.get_ref()),
            value.get_ref(),
        ) {
            (Some((section, known)), DeValue::Table(keys)) => {
                let unknown = keys.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
                found.extend(unknown.map(|key| {
                    let (at, written) = (key.span().start, format!("{section}.{}", key.get_ref()));
                    (
                        at,
                        UnknownKey {
                            line: line(at),
                            nearest: nearest_key(&written),
                            written,
                        },
                    )
                }));
            }
            // A section that is not a table: deserialising says so.
            (Some(_), _) => {}
            (None, DeValue::Table(_)) => {
                let (written, nearest) = (format!("[{}]", name.get_ref()), nearest_section(name.get_ref()));
                found.push((
                    at,
                    UnknownKey {
                        line: line(at),
                        written,
                        nearest,
                    },
                ));
            }
            (None, _) => {
                let written = name.get_ref().to_string();
                found.push((
                    at,
                    UnknownKey {
                        line: line(at),
                        nearest: nearest_key(&written),
                        written,
                    },
                ));
            }
        }
    }
    found.into_iter().min_by_key(|(at, _)| *at).map(|(_, key)| key)
}

fn nearest_section(written: &str) -> String {
    let near = KEYS
        .iter()
        .map(|(section, _)| *section)
        .min_by_key(|section| strsim::damerau_levenshtein(section, written));
    format!("[{}]", near.unwrap_or_default())
}

/// A key without a section is compared with the keys alone.
fn nearest_key(written: &str) -> String {
    let distance = |section: &str, key: &str| match written.split_once('.') {
        Some(_) => strsim::damerau_levenshtein(&format!("{section}.{key}"), written),
        None => strsim::damerau_levenshtein(key, written),
    };
    let near = all().min_by_key(|(section, key)| distance(section, key));
    near.map(|(section, key)| format!("{section}.{key}"))
        .unwrap_or_default()
}
