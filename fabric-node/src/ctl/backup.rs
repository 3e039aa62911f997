//! `backup`: what the daemon sends, in a file that is whole and was read back, or not there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::BackupArgs;
use super::client::Client;
use super::problem::Problem;
use crate::backup::{self, Backup};

/// What was made.
#[derive(Debug, Serialize)]
pub(super) struct Made {
    file: String,
    cluster: String,
    cluster_name: String,
    taken: String,
    domains: usize,
    objects: u64,
}

impl Made {
    /// For people.
    pub(super) fn told(&self) -> String {
        let Self {
            file,
            cluster,
            cluster_name,
            taken,
            domains,
            objects,
        } = self;
        format!(
            "{file}: {objects} objects of {domains} domains of cluster {cluster_name} ({cluster}) as of {taken}\n\
             restore it with: fabric-node init --restore {file}"
        )
    }
}

/// Makes a backup.
pub(super) async fn make(client: &Client, args: &BackupArgs) -> Result<Made, Problem> {
    let wrong = |message: String| Problem::File {
        path: args.file.clone(),
        message,
    };
    if args.file.as_os_str() == "-" {
        return Err(wrong(
            "a backup is written to a file, not to standard output".to_owned(),
        ));
    }
    if !args.force && args.file.symlink_metadata().is_ok() {
        return Err(wrong(
            "it is there already; name another file, or give --force".to_owned(),
        ));
    }
    let draft = Draft::beside(&args.file).map_err(|error| wrong(error.to_string()))?;
    let mut file = draft.create().map_err(|error| wrong(error.to_string()))?;
    client.download("/v1/backup", &mut file).await?;
    let read = draft.check().map_err(|error| match error {
        backup::BackupError::Truncated(_) => {
            Problem::Silent("the daemon broke off in the midst of the backup".to_owned())
        }
        other => wrong(format!("what the daemon sent {other}")),
    })?;
    file.sync_all().map_err(|error| wrong(error.to_string()))?;
    draft.finish(&args.file).map_err(|error| wrong(error.to_string()))?;
    let Backup { head, objects, .. } = &read;
    Ok(Made {
        file: args.file.display().to_string(),
        cluster: head.cluster.clone(),
        cluster_name: head.cluster_name.clone(),
        taken: head.taken.clone(),
        domains: read.domains(),
        objects: *objects,
    })
}

/// A file that is not finished; it goes with this value.
struct Draft(PathBuf);

impl Draft {
    fn beside(file: &Path) -> io::Result<Self> {
        let name = file.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let mut draft = std::ffi::OsString::from(".");
        draft.push(name);
        draft.push(format!(".{}.draft", std::process::id()));
        Ok(Self(file.with_file_name(draft)))
    }

    /// Only its owner may read it.
    fn create(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(&self.0)
    }

    fn check(&self) -> Result<Backup, backup::BackupError> {
        backup::read(BufReader::new(File::open(&self.0)?))
    }

    fn finish(self, file: &Path) -> io::Result<()> {
        fs::rename(&self.0, file)?;
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already where it was finished; else what is left of it is of no use.
        let _gone = fs::remove_file(&self.0);
    }
}
