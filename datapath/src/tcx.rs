//! Stubs by tcx (Linux 6.6): a link that its pin keeps attached.

use std::fs;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramInfo, SchedClassifier};

use crate::attach::Hook;
use crate::error::Error;

/// Attaches a stub before all others and pins the link, or keeps the pinned one. A stub there that calls another
/// program array than `programs` is replaced in one step.
pub(crate) fn attach(
    stub: &mut SchedClassifier,
    pin: &Path,
    interface: &str,
    hook: Hook,
    programs: u32,
) -> Result<(), Error> {
    if pin.exists() {
        match pinned(pin, interface, hook) {
            Some((_, running)) if calls(&running, programs) => return Ok(()),
            Some((link, _)) => return replace(stub, link, hook),
            // Its interface is gone and another one got the index, or somebody took it off.
            None => fs::remove_file(pin).map_err(Error::file("remove the pin", pin))?,
        }
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let attached = stub
        .attach_with_options(interface, hook.direction(), options)
        .and_then(|id| stub.take_link(id))
        .map_err(Error::program("attach", hook.stub()))?;
    let link = FdLink::try_from(attached).map_err(|_| Error::Part("tcx link"))?;
    if let Some(folder) = pin.parent() {
        // Somebody may have removed it.
        fs::create_dir_all(folder).map_err(Error::file("make the folder", folder))?;
    }
    let pinned = link.pin(pin).map_err(Error::pin(pin))?;
    drop(pinned); // The pin holds the link; closing the handle detaches nothing.
    Ok(())
}

/// Whether the pinned link's program is on the interface.
pub(crate) fn runs(pin: &Path, interface: &str, hook: Hook) -> bool {
    pinned(pin, interface, hook).is_some()
}

/// The pinned link and its program, if that is on the interface.
fn pinned(pin: &Path, interface: &str, hook: Hook) -> Option<(FdLink, ProgramInfo)> {
    let link = FdLink::from(PinnedLink::from_pin(pin).ok()?);
    let id = link.info().ok()?.program_id();
    let (_, programs) = SchedClassifier::query_tcx(interface, hook.direction()).ok()?;
    let running = programs.into_iter().find(|program| program.id() == id)?;
    Some((link, running))
}

/// Whether a program uses a map.
fn calls(program: &ProgramInfo, map: u32) -> bool {
    program.map_ids().ok().flatten().is_some_and(|ids| ids.contains(&map))
}

fn replace(stub: &mut SchedClassifier, link: FdLink, hook: Hook) -> Result<(), Error> {
    let link = SchedClassifierLink::try_from(link).map_err(|_| Error::Part("tcx link"))?;
    let replaced = stub.attach_to_link(link).and_then(|id| stub.take_link(id));
    let link = FdLink::try_from(replaced.map_err(Error::program("replace", hook.stub()))?);
    drop(link); // As above.
    Ok(())
}
