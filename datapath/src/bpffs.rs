//! Where things are pinned. Pins keep maps, programs and attachments alive without a process.
//!
//! ```text
//!  <bpffs>/fabric/<node id>/v<layout>/maps/PORTS …          the maps
//!                                    /hooks/<ifindex>-<program>-<mechanism>     an attachment: a tcx link, or the
//!                                                                    program where the kernel has only clsact
//!                                    /qdiscs/<ifindex>/     a clsact qdisc of ours is on this interface
//! ```
//! Another layout of the maps gets another `v…`, so that a build never reads bytes it would misunderstand.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use membership::id::NodeId;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::attach::{Hook, Mechanism};
use crate::error::Error;

/// Version of the layouts in `datapath_common`; raised with any change of a key, a value or a meaning.
pub(crate) const LAYOUT: u32 = 2;

/// The pins of one node, of this build's layout.
#[derive(Debug, Clone)]
pub(crate) struct Pins {
    node: PathBuf,
}

impl Pins {
    pub(crate) fn new(bpffs: &Path, node: NodeId) -> Self {
        Self {
            node: bpffs.join("fabric").join(node.as_str()),
        }
    }

    /// The folder of all layouts.
    pub(crate) fn node(&self) -> &Path {
        &self.node
    }

    fn layout(&self) -> PathBuf {
        self.node.join(format!("v{LAYOUT}"))
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.layout().join("maps").join(name)
    }

    pub(crate) fn hooks(&self) -> PathBuf {
        self.layout().join("hooks")
    }

    pub(crate) fn hook(&self, ifindex: u32, hook: Hook, mechanism: Mechanism) -> PathBuf {
        self.hooks()
            .join(format!("{ifindex}-{}-{}", hook.program(), mechanism.name()))
    }

    pub(crate) fn qdisc(&self, ifindex: u32) -> PathBuf {
        self.layout().join("qdiscs").join(ifindex.to_string())
    }

    /// Makes the folders.
    pub(crate) fn create(&self) -> Result<(), Error> {
        for folder in ["maps", "hooks", "qdiscs"] {
            let path = self.layout().join(folder);
            fs::create_dir_all(&path).map_err(Error::file("make the folder", path))?;
        }
        Ok(())
    }

    /// Folders of this node that another layout made.
    pub(crate) fn other_layouts(&self) -> Result<Vec<PathBuf>, Error> {
        Ok(entries(&self.node)?
            .into_iter()
            .filter(|path| *path != self.layout())
            .collect())
    }

    /// Folders of this node of every layout.
    pub(crate) fn layouts(&self) -> Result<Vec<PathBuf>, Error> {
        entries(&self.node)
    }

    /// Makes room for this build's layout where an incompatible one lies under its version.
    pub(crate) fn set_aside(&self) -> Result<(), Error> {
        let layout = self.layout();
        fs::rename(&layout, self.node.join(format!("v{LAYOUT}-other"))).map_err(Error::file("set aside", layout))
    }

    /// Takes over the memory of clsact qdiscs that another layout added.
    pub(crate) fn adopt_qdiscs(&self, layout: &Path) -> Result<(), Error> {
        for marker in entries(&layout.join("qdiscs"))? {
            if let Some(name) = marker.file_name() {
                let path = self.layout().join("qdiscs").join(name);
                fs::create_dir_all(&path).map_err(Error::file("make the folder", path))?;
            }
        }
        Ok(())
    }
}

/// What is in a folder, sorted; nothing if there is no such folder.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = match fs::read_dir(folder) {
        Ok(read) => read,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::file("list", folder)(e)),
    };
    let mut paths = Vec::new();
    for entry in read {
        paths.push(entry.map_err(Error::file("list", folder))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The interface, the hook and the mechanism of a file in `hooks`.
pub(crate) fn parse_hook(path: &Path) -> Option<(u32, Hook, Mechanism)> {
    let mut parts = path.file_name()?.to_str()?.split('-');
    let ifindex = parts.next()?.parse().ok()?;
    let program = parts.next()?;
    let mechanism = parts.next()?;
    let hook = Hook::ALL.into_iter().find(|hook| hook.program() == program)?;
    let mechanism = Mechanism::ALL.into_iter().find(|m| m.name() == mechanism)?;
    parts.next().is_none().then_some((ifindex, hook, mechanism))
}

/// Makes sure that a bpf file system is mounted at `path`; returns whether it had to be mounted. Nodes of the same
/// machine that start together mount it once.
pub(crate) fn ensure_mounted(path: &Path) -> Result<bool, Error> {
    if is_bpffs(path) {
        return Ok(false);
    }
    let failed = |source| Error::Bpffs {
        path: path.to_owned(),
        source,
    };
    if !path.exists() {
        fs::create_dir_all(path).map_err(failed)?;
    }
    let mount_point = fs::File::open(path).map_err(failed)?;
    mount_point.lock().map_err(failed)?;
    if is_bpffs(path) {
        return Ok(false);
    }
    mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), Some("mode=700")).map_err(|e| failed(e.into()))?;
    Ok(true)
}

/// Whether a bpf file system is at `path` or above it.
fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_names_its_interface_and_program() {
        let pins = Pins::new(Path::new("/sys/fs/bpf"), NodeId::of_key(&[1; 32]));
        for mechanism in Mechanism::ALL {
            for hook in Hook::ALL {
                assert_eq!(parse_hook(&pins.hook(12, hook, mechanism)), Some((12, hook, mechanism)));
            }
        }
        for wrong in ["", "12", "x-from_endpoint-tcx", "1-other-tcx", "1-from_endpoint-tcx-2"] {
            assert_eq!(parse_hook(Path::new(wrong)), None);
        }
    }
}
