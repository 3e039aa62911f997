//! Stubs where there is no tcx (before Linux 6.6): filters of the clsact qdisc. The kernel keeps those without a
//! process; a pin of the program tells a later run that the filter is ours.

use std::fs;
use std::path::Path;

use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{ProgramError, SchedClassifier};
use membership::id::NodeId;

use crate::attach::Hook;
use crate::bpffs::Pins;
use crate::error::Error;
use crate::links::fnv1a;
use crate::netlink::Link;

/// Priority of our filters. Low, so that other owners' filters come behind.
pub(crate) const PRIORITY: u16 = 1;

/// Handle of a node's filters: nodes in one network namespace do not replace each other's.
pub(crate) fn handle(node: NodeId) -> TcHandle {
    let hash = fnv1a(node.as_str().as_bytes()) as u32 & 0x7fff_ffff;
    TcHandle::from(hash.max(1))
}

/// Attaches a stub, or puts it in the place of the one that is there. All that says whose the filter and the qdisc
/// are comes first: a run that ends half way leaves nothing that a purge would not find.
pub(crate) fn attach(
    stub: &mut SchedClassifier,
    pins: &Pins,
    pin: &Path,
    link: &Link,
    hook: Hook,
    node: NodeId,
) -> Result<(), Error> {
    repin(stub, pin)?;
    ensure_qdisc(pins, link)?;
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: PRIORITY,
        handle: handle(node),
        classid: None,
    });
    let attached = match stub.attach_with_options(&link.name, hook.direction(), options) {
        Err(e) if errno(&e) == Some(nix::libc::EEXIST) => {
            filter(&link.name, hook, node).and_then(|filter| stub.attach_to_link(filter))
        }
        other => other,
    };
    let filter = attached
        .and_then(|id| stub.take_link(id))
        .map_err(Error::program("attach", hook.stub()))?;
    std::mem::forget(filter); // Dropping it would remove the filter.
    Ok(())
}

/// Removes our filter; an interface that is gone took it along.
pub(crate) fn detach(interface: &str, hook: Hook, node: NodeId) -> Result<(), Error> {
    match filter(interface, hook, node) {
        Ok(filter) => drop(filter), // This removes it.
        Err(e) if errno(&e) == Some(nix::libc::ENODEV) => {}
        Err(e) => return Err(Error::program("detach", hook.stub())(e)),
    }
    Ok(())
}

fn filter(interface: &str, hook: Hook, node: NodeId) -> Result<SchedClassifierLink, ProgramError> {
    SchedClassifierLink::attached(interface, hook.direction(), PRIORITY, handle(node), None)
        .map_err(|e| ProgramError::from(TcError::from(e)))
}

/// Pins the program at `pin`, in one step where another one is pinned there.
fn repin(stub: &mut SchedClassifier, pin: &Path) -> Result<(), Error> {
    if let Some(folder) = pin.parent() {
        // Somebody may have removed it.
        fs::create_dir_all(folder).map_err(Error::file("make the folder", folder))?;
    }
    let mut beside = pin.to_owned().into_os_string();
    beside.push("-next");
    let beside = Path::new(&beside);
    if beside.exists() {
        fs::remove_file(beside).map_err(Error::file("remove the pin", beside))?;
    }
    stub.pin(beside).map_err(Error::pin(beside))?;
    fs::rename(beside, pin).map_err(Error::file("replace the pin", pin))
}

fn ensure_qdisc(pins: &Pins, link: &Link) -> Result<(), Error> {
    let marker = pins.qdisc(link.ifindex);
    let was_ours = marker.exists();
    fs::create_dir_all(&marker).map_err(Error::file("make the folder", &marker))?;
    match tc::qdisc_add_clsact(&link.name) {
        Ok(()) => Ok(()),
        Err(TcError::NetlinkError(e)) if e.raw_os_error() == Some(nix::libc::EEXIST) => {
            if !was_ours {
                fs::remove_dir(&marker).map_err(Error::file("remove the folder", &marker))?;
            }
            Ok(())
        }
        Err(e) => Err(Error::program("attach", "clsact")(e.into())),
    }
}

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::TcError(TcError::NetlinkError(e)) | ProgramError::NetlinkError(e) => e.raw_os_error(),
        ProgramError::TcError(TcError::IoError(e)) => e.raw_os_error(),
        _ => None,
    }
}
