//! Reading a backup: all of it, checked, or why not.

use std::io::{self, BufRead, Read as _};

use membership::hlc::Stamp;
use membership::id::Label;
use membership::record::{Body, Key};
use overlay::manifest;
use overlay::object::Kind;
use sha2::{Digest as _, Sha256};

use super::{FORMAT, Head, Line, Tail, Version};

/// Longest line, in bytes: an object with as many versions as anybody makes.
const LINE_MAX: u64 = 16 * 1024 * 1024;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// What it is of.
    pub head: Head,
    /// Versions of objects; those of one object stand together.
    pub versions: Vec<Saved>,
    /// How many objects they are of.
    pub objects: u64,
}

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The object's domain.
    pub domain: Label,
    /// Which object.
    pub key: Key,
    /// When it was written.
    pub stamp: Stamp,
    /// By whom.
    pub author: String,
    /// What it says; none if it deletes the object.
    pub body: Option<Body>,
}

/// Why a file is no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The system refused.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Something else.
    #[error("it is no backup: make one with `fabricctl backup FILE`")]
    NotABackup,
    /// Made by a later release.
    #[error("it has format {0}, and this release reads up to {FORMAT}: use the release that wrote it, or a later one")]
    Newer(u32),
    /// Its last line is missing.
    #[error("it was cut off behind line {0}: use another copy of it")]
    Truncated(usize),
    /// Its bytes are not those that were written.
    #[error("it is damaged: its digest is not that of its content; use another copy of it")]
    Damaged,
    /// A line that cannot be understood, though it is what was written.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl Backup {
    /// How many domains it has objects of.
    #[must_use]
    pub fn domains(&self) -> usize {
        let mut domains: Vec<&Label> = self.versions.iter().map(|version| &version.domain).collect();
        domains.sort_unstable();
        domains.dedup();
        domains.len()
    }
}

/// Reads a backup whole. Nothing of it is believed before its digest was found right.
pub fn read(mut from: impl BufRead) -> Result<Backup, BackupError> {
    let first = line(&mut from)?;
    let head = head(&first)?;
    let mut digest = Sha256::new();
    digest.update(&first);
    let mut lines = Vec::new();
    loop {
        let next = line(&mut from)?;
        if next.last() != Some(&b'\n') {
            return Err(BackupError::Truncated(lines.len() + 1));
        }
        if let Ok(tail) = serde_json::from_slice::<Tail>(&next) {
            check(&tail, digest, lines.len(), &mut from)?;
            let versions = versions(&lines)?;
            return Ok(Backup {
                head,
                versions,
                objects: tail.objects,
            });
        }
        digest.update(&next);
        lines.push(next);
    }
}

fn line(from: &mut impl BufRead) -> Result<Vec<u8>, BackupError> {
    let mut line = Vec::new();
    from.take(LINE_MAX).read_until(b'\n', &mut line)?;
    Ok(line)
}

fn head(line: &[u8]) -> Result<Head, BackupError> {
    let value: serde_json::Value = serde_json::from_slice(line).map_err(|_| BackupError::NotABackup)?;
    let format = value.get("fabric_backup").and_then(serde_json::Value::as_u64);
    match format.map(u32::try_from) {
        None | Some(Ok(0)) => Err(BackupError::NotABackup),
        Some(Ok(format)) if (1..=FORMAT).contains(&format) => {
            serde_json::from_value(value).map_err(|_| BackupError::Damaged)
        }
        Some(format) => Err(BackupError::Newer(format.unwrap_or(u32::MAX))),
    }
}

/// Whether the last line fits what stands before it, and is the last.
fn check(tail: &Tail, digest: Sha256, objects: usize, from: &mut impl BufRead) -> Result<(), BackupError> {
    let found = data_encoding::HEXLOWER.encode(&digest.finalize());
    let goes_on = !line(from)?.is_empty();
    if found != tail.sha256 || u64::try_from(objects).ok() != Some(tail.objects) || goes_on {
        return Err(BackupError::Damaged);
    }
    Ok(())
}

fn versions(lines: &[Vec<u8>]) -> Result<Vec<Saved>, BackupError> {
    let mut all = Vec::new();
    for (index, bytes) in lines.iter().enumerate() {
        // Behind the head, and counted from 1.
        let wrong = |why: String| BackupError::Line { line: index + 2, why };
        let line: Line = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        for version in &line.versions {
            all.push(saved(&line, version).map_err(wrong)?);
        }
    }
    Ok(all)
}

fn saved(line: &Line, version: &Version) -> Result<Saved, String> {
    let Line { domain, kind, name, .. } = line;
    let domain: Label = domain.parse().map_err(|error| format!("domain: {error}"))?;
    let body = match (&version.spec, &version.body) {
        (None, body) => body.clone(),
        (Some(spec), _) => {
            let object = match kind.parse() {
                Ok(Kind::Domain) => serde_json::json!({"kind": kind, "name": name, "spec": spec}),
                Ok(_) => serde_json::json!({"kind": kind, "domain": domain, "name": name, "spec": spec}),
                Err(error) => return Err(error.to_string()),
            };
            Some(encoded(&object.to_string())?)
        }
    };
    Ok(Saved {
        domain,
        key: Key::new(kind, name),
        stamp: Stamp {
            millis: version.millis,
            logical: version.logical,
        },
        author: version.author.clone(),
        body,
    })
}

/// As a record holds it.
fn encoded(manifest: &str) -> Result<Body, String> {
    let read = manifest::parse("backup", manifest).map_err(|errors| {
        let errors: Vec<String> = errors
            .iter()
            .map(|error| format!("{}: {}", error.path, error.cause))
            .collect();
        errors.join("; ")
    })?;
    let object = read.first().ok_or("there is no object in it")?;
    Ok(object.object.spec.encode())
}
