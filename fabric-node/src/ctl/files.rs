//! Reads manifests from files, directories and standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::problem::Problem;
use crate::api::BODY_MAX;
use crate::api::types::Manifest;

/// All manifests, those of a directory by name.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, Problem> {
    let mut manifests = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            manifests.push(Manifest {
                source: "stdin".to_owned(),
                text: text(path, std::io::stdin())?,
            });
        } else if path.is_dir() {
            for file in files_in(path)? {
                manifests.push(open(&file)?);
            }
        } else {
            manifests.push(open(path)?);
        }
    }
    Ok(manifests)
}

fn files_in(directory: &Path) -> Result<Vec<PathBuf>, Problem> {
    let wrong = |message: String| Problem::File {
        path: directory.to_owned(),
        message,
    };
    let entries = std::fs::read_dir(directory).map_err(|error| wrong(error.to_string()))?;
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    // Editors keep hidden copies and locks beside the files.
    let is_hidden = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let is_manifest = |path: &PathBuf| {
        path.extension()
            .and_then(|ending| ending.to_str())
            .is_some_and(|ending| matches!(ending, "yaml" | "yml" | "json"))
            && !is_hidden(path)
    };
    let mut files: Vec<_> = paths
        .map_err(|error| wrong(error.to_string()))?
        .into_iter()
        .filter(is_manifest)
        .collect();
    if files.is_empty() {
        return Err(wrong("no .yaml, .yml or .json file in it".to_owned()));
    }
    files.sort();
    Ok(files)
}

fn open(path: &Path) -> Result<Manifest, Problem> {
    let wrong = |error: std::io::Error| Problem::File {
        path: path.to_owned(),
        message: error.to_string(),
    };
    let file = std::fs::File::open(path).map_err(wrong)?;
    Ok(Manifest {
        source: path.display().to_string(),
        text: text(path, file)?,
    })
}

fn text(path: &Path, from: impl Read) -> Result<String, Problem> {
    let invalid = |message: String| Problem::Manifest {
        path: path.to_owned(),
        message,
    };
    let mut bytes = Vec::new();
    from.take(BODY_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Problem::File {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
    if bytes.len() > BODY_MAX {
        return Err(invalid(format!("larger than {BODY_MAX} bytes; apply it in parts")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error
            .as_bytes()
            .get(..error.utf8_error().valid_up_to())
            .unwrap_or_default();
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        invalid(format!("line {line}: not UTF-8; save it in that encoding"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_manifests_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["b.yaml", "a.json", "notes.txt", ".hidden.yaml", ".#lock.json"] {
            std::fs::write(dir.path().join(name), name).expect("written");
        }
        let texts: Vec<_> = read(&[dir.path().to_owned()])
            .expect("read")
            .into_iter()
            .map(|m| m.text)
            .collect();
        assert_eq!(texts, ["a.json", "b.yaml"]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("missing.yaml");
        let error = read(&[missing]).expect_err("missing").to_string();
        assert!(error.contains("missing.yaml"), "{error}");
        let error = read(&[dir.path().to_owned()]).expect_err("empty").to_string();
        assert!(error.contains("no .yaml"), "{error}");
    }
    #[test]
    fn what_is_no_text_is_an_invalid_manifest_with_its_line() {
        let bad = text("red.yaml".as_ref(), &b"kind: Domain\nname: \xff\n"[..]).expect_err("not UTF-8");
        assert_eq!(bad.exit(), crate::exit::Exit::InvalidManifest);
        assert!(bad.text().contains("red.yaml: line 2: not UTF-8"), "{}", bad.text());
        let huge = text("red.yaml".as_ref(), std::io::repeat(b'x')).expect_err("endless");
        assert_eq!(huge.exit(), crate::exit::Exit::InvalidManifest);
    }
}
