//! Where things are pinned. Pins keep maps, programs and attachments alive without a process.
//!
//! ```text
//!  <bpffs>/fabric/<node id>/v<layout>/PORTS …      the tables, and what can be made anew
//!                          /state/CONNECTIONS …    what outlives a build: what stubs call, functions, connections,
//!                                                  counters, names
//!                          /former/CONNECTIONS …   the same of a build that gave it other sizes, while it is carried over
//!                          /hooks/<ifindex>-<program>-<mechanism>     an attachment: a tcx link, or the program where
//!                                                  the kernel has only clsact
//!                          /qdiscs/<ifindex>/      a clsact qdisc of ours is on this interface
//! ```
//! Another layout of the tables gets another `v…`, so that a build never reads bytes it would misunderstand. While there
//! is a `v…` of another build, its tables are in force.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::MapData;
use membership::id::NodeId;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::attach::{Hook, Mechanism};
use crate::error::Error;

/// Version of the tables' layouts in `datapath_common`; raised with any change of a key, a value or a meaning.
pub(crate) const LAYOUT: u32 = 5;
/// First letter of the folders of tables.
const TABLES: char = 'v';

/// The maps that outlive layouts. What their values begin with never changes: they grow at the end, where zero means what
/// was before.
const STATE: [&str; 11] = [
    "CONNECTIONS",
    "HALF_OPEN",
    "CROWDED",
    "ESTABLISHED",
    "FRAGMENTS",
    "DROPS",
    "PROGRAMS",
    "CHAIN",
    "FUNCTIONS",
    "NUMBERS",
    "LOADS",
];

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

    /// The folder of all.
    pub(crate) fn node(&self) -> &Path {
        &self.node
    }

    fn tables(&self) -> PathBuf {
        self.node.join(format!("{TABLES}{LAYOUT}"))
    }

    /// The pin of a map.
    pub(crate) fn map(&self, name: &str) -> PathBuf {
        let folder = if outlives(name) { self.state() } else { self.tables() };
        folder.join(name)
    }

    fn state(&self) -> PathBuf {
        self.node.join("state")
    }

    fn former(&self) -> PathBuf {
        self.node.join("former")
    }

    pub(crate) fn hooks(&self) -> PathBuf {
        self.node.join("hooks")
    }

    pub(crate) fn hook(&self, ifindex: u32, hook: Hook, mechanism: Mechanism) -> PathBuf {
        self.hooks()
            .join(format!("{ifindex}-{}-{}", hook.program(), mechanism.name()))
    }

    /// There while the kernel is told to hurry.
    pub(crate) fn hurry(&self) -> PathBuf {
        self.node.join("hurry")
    }

    pub(crate) fn qdiscs(&self) -> PathBuf {
        self.node.join("qdiscs")
    }

    pub(crate) fn qdisc(&self, ifindex: u32) -> PathBuf {
        self.qdiscs().join(ifindex.to_string())
    }

    /// Makes the folders.
    pub(crate) fn create(&self) -> Result<(), Error> {
        for path in [self.tables(), self.state(), self.hooks(), self.qdiscs()] {
            fs::create_dir_all(&path).map_err(Error::file("make the folder", path))?;
        }
        Ok(())
    }

    /// Whether the tables of another build are in force, or connections of one are not carried over.
    pub(crate) fn has_others(&self) -> Result<bool, Error> {
        Ok(!self.others()?.is_empty())
    }

    /// Forgets all of other builds.
    pub(crate) fn forget_others(&self) -> Result<(), Error> {
        for folder in self.others()? {
            fs::remove_dir_all(&folder).map_err(Error::file("remove the pins", &folder))?;
        }
        Ok(())
    }

    fn others(&self) -> Result<Vec<PathBuf>, Error> {
        let is_other = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            *path == self.former() || name.starts_with(TABLES) && *path != self.tables()
        };
        Ok(entries(&self.node)?.into_iter().filter(is_other).collect())
    }

    /// Takes maps that outlive builds from among the tables of a build that had them there. It finds them there, too, if it
    /// comes back before this one takes over.
    pub(crate) fn adopt_state(&self) -> Result<(), Error> {
        for name in STATE {
            let path = self.map(name);
            let former = self.others()?.into_iter().map(|folder| folder.join(name));
            let Some(former) = former.rev().find(|former| former.exists() && !path.exists()) else {
                continue;
            };
            if former.starts_with(self.former()) {
                continue;
            }
            fs::create_dir_all(self.state()).map_err(Error::file("make the folder", self.state()))?;
            let map = MapData::from_pin(&former).map_err(Error::map("take over", name))?;
            map.pin(&path).map_err(Error::pin(&path))?;
        }
        Ok(())
    }

    /// Makes room for this build's tables where incompatible ones lie under their version.
    pub(crate) fn set_tables_aside(&self) -> Result<(), Error> {
        let (tables, aside) = (self.tables(), self.node.join(format!("{TABLES}{LAYOUT}-other")));
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(Error::file("remove the pins", &aside))?;
        }
        fs::rename(&tables, aside).map_err(Error::file("set aside", tables))
    }

    /// Makes room for a map that outlives layouts where one with other sizes is. Where one was set aside before, that is
    /// the one in force.
    pub(crate) fn set_state_aside(&self, name: &str) -> Result<(), Error> {
        let (path, aside) = (self.state().join(name), self.former().join(name));
        if aside.exists() {
            return fs::remove_file(&path).map_err(Error::file("remove the pin", path));
        }
        fs::create_dir_all(self.former()).map_err(Error::file("make the folder", self.former()))?;
        fs::rename(&path, aside).map_err(Error::file("set aside", path))
    }

    /// Maps that were set aside, by name.
    pub(crate) fn set_aside(&self) -> Result<Vec<PathBuf>, Error> {
        entries(&self.former())
    }
}

/// Whether a map outlives layouts.
pub(crate) fn outlives(map: &str) -> bool {
    STATE.contains(&map)
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
