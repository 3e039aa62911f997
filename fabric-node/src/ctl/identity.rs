//! The file with which a person is known to every node: key, certificate and the cluster's roots as PEM, one behind the
//! other.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use membership::identity::NodeKey;
use membership::pki::{PkiError, Roots, User};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::problem::Problem;
use crate::wallclock;

/// Longest file that is read, in bytes.
const FILE_MAX: u64 = 64 * 1024;
const KEY_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const KEY_END: &str = "-----END PRIVATE KEY-----";

/// Who asks, and which cluster.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) key: NodeKey,
    /// The user's certificate (DER).
    pub(super) certificate: Bytes,
    pub(super) roots: Roots,
}

impl Identity {
    /// Reads the file; refuses a certificate that is not good at this time.
    pub(super) fn read(path: &Path) -> Result<Self, Problem> {
        let text = text(path).map_err(|error| unusable(path, error))?;
        Self::parse(&text).map_err(|wrong| match wrong {
            Wrong::Form(message) => Problem::File {
                path: path.to_owned(),
                message: format!("no identity: {message}; it is what `fabricctl user create` writes"),
            },
            Wrong::Certificate(error) => Problem::Identity {
                path: path.to_owned(),
                why: error.to_string(),
            },
        })
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let key = key(text).ok_or(Wrong::Form("it has no Ed25519 private key"))?;
        let mut certificates = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            let certificate = certificate.map_err(|_| Wrong::Form("a certificate in it is damaged"))?;
            certificates.push(Bytes::from(certificate.to_vec()));
        }
        let Some((certificate, roots)) = certificates.split_first().filter(|(_, roots)| !roots.is_empty()) else {
            return Err(Wrong::Form("it must have a certificate and the cluster's roots"));
        };
        let cluster = User::parse(certificate)?.cluster;
        let roots = Roots::new(cluster, roots)?;
        roots.check_user(certificate, wallclock::since_epoch())?;
        Ok(Self {
            key,
            certificate: certificate.clone(),
            roots,
        })
    }
}

/// Why a text is no identity.
enum Wrong {
    Form(&'static str),
    Certificate(PkiError),
}

impl From<PkiError> for Wrong {
    fn from(error: PkiError) -> Self {
        Self::Certificate(error)
    }
}

fn key(text: &str) -> Option<NodeKey> {
    let begin = text.find(KEY_BEGIN)?;
    let end = begin + text.get(begin..)?.find(KEY_END)? + KEY_END.len();
    NodeKey::from_pem(text.get(begin..end)?).ok()
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// What stands against reading or writing such a file.
pub(super) fn unusable(path: &Path, error: io::Error) -> Problem {
    let why = error.to_string();
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Problem::Identity { path, why },
        io::ErrorKind::AlreadyExists => Problem::File {
            path,
            message: "it is there already; choose another name, or replace it with --force".to_owned(),
        },
        _ => Problem::File { path, message: why },
    }
}

/// Writes the parts into a file that only its owner reads: all of them, or none.
pub(super) fn write(path: &Path, parts: &[&str], force: bool) -> io::Result<()> {
    let draft = draft(path);
    let written = write_draft(&draft, parts).and_then(|()| match force {
        true => std::fs::rename(&draft, path),
        // Unlike a rename, this fails if the file is there.
        false => std::fs::hard_link(&draft, path).and_then(|()| std::fs::remove_file(&draft)),
    });
    if written.is_err() {
        // Best effort: the first error is the one to tell.
        let _gone = std::fs::remove_file(&draft);
    }
    written
}

fn write_draft(draft: &Path, parts: &[&str]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)?;
    for part in parts {
        file.write_all(part.as_bytes())?;
    }
    file.sync_all()
}

/// A name beside the file that nobody else uses.
fn draft(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.draft", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_its_owners_and_is_replaced_only_by_force() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("alice.pem");
        write(&path, &["one\n", "two\n"], false).expect("written");
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = write(&path, &["three"], false).expect_err("it is there");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "one\ntwo\n");
        write(&path, &["three"], true).expect("replaced");
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "three");
        assert_eq!(
            std::fs::read_dir(dir.path()).expect("readable").count(),
            1,
            "no draft is left"
        );
        assert!(write(&dir.path().join("none/alice.pem"), &["x"], false).is_err());
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.pem");
        assert!(matches!(Identity::read(&path), Err(Problem::File { .. })));
        let key = NodeKey::generate().to_pem().expect("PEM").to_string();
        for text in ["", "junk", &key, &format!("{KEY_END}{KEY_BEGIN}")] {
            std::fs::write(&path, text).expect("written");
            let wrong = Identity::read(&path).expect_err(text);
            assert_eq!(wrong.exit().code(), 2, "{wrong}");
            assert!(wrong.to_string().contains("no identity"), "{wrong}");
        }
    }
}
