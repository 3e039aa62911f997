//! The stubs on interfaces: attached once, pinned, and never detached by the end of a process.

use std::fs;
use std::path::Path;

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use datapath_common::{SLOT_FROM_ENDPOINT, SLOT_FROM_UNDERLAY, SLOT_TO_ENDPOINT};

use crate::bpffs::Pins;
use crate::error::Error;

/// Priority and handle of our filters on a clsact qdisc. Low, so that other owners' filters come behind.
const CLSACT_PRIORITY: u16 = 1;
const CLSACT_HANDLE: TcHandle = TcHandle::new(0, 0xfab);

/// Where a program stands in a packet's way. Directions are as the workload sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    /// Host side of a workload's interface, ingress.
    FromEndpoint,
    /// Host side of a workload's interface, egress.
    ToEndpoint,
    /// Underlay interface, ingress.
    FromUnderlay,
}

/// How a stub is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mechanism {
    /// A pinned tcx link (Linux 6.6).
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
}

impl Hook {
    pub(crate) const ALL: [Self; 3] = [Self::FromEndpoint, Self::ToEndpoint, Self::FromUnderlay];
    /// Those of a workload's interface.
    pub(crate) const ENDPOINT: [Self; 2] = [Self::FromEndpoint, Self::ToEndpoint];

    /// The program of the slot.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::FromEndpoint => "from_endpoint",
            Self::ToEndpoint => "to_endpoint",
            Self::FromUnderlay => "from_underlay",
        }
    }

    /// The stub that tail-calls the slot.
    pub(crate) fn stub(self) -> &'static str {
        match self {
            Self::FromEndpoint => "stub_from_endpoint",
            Self::ToEndpoint => "stub_to_endpoint",
            Self::FromUnderlay => "stub_from_underlay",
        }
    }

    /// The slot of `PROGRAMS`.
    pub(crate) fn slot(self) -> u32 {
        match self {
            Self::FromEndpoint => SLOT_FROM_ENDPOINT,
            Self::ToEndpoint => SLOT_TO_ENDPOINT,
            Self::FromUnderlay => SLOT_FROM_UNDERLAY,
        }
    }

    pub(crate) fn direction(self) -> TcAttachType {
        match self {
            Self::FromEndpoint | Self::FromUnderlay => TcAttachType::Ingress,
            Self::ToEndpoint => TcAttachType::Egress,
        }
    }
}

impl Mechanism {
    pub(crate) const ALL: [Self; 2] = [Self::Tcx, Self::Clsact];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// An interface by index and name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) ifindex: u32,
    pub(crate) name: &'a str,
}

/// Attaches a stub unless it is attached. What a former run attached stays.
pub(crate) fn attach(
    ebpf: &mut Ebpf,
    pins: &Pins,
    target: Target<'_>,
    hook: Hook,
    mechanism: Mechanism,
) -> Result<(), Error> {
    let pin = pins.hook(target.ifindex, hook, mechanism);
    let stub = stub(ebpf, hook)?;
    match mechanism {
        Mechanism::Tcx => attach_tcx(stub, &pin, target.name, hook),
        Mechanism::Clsact => attach_clsact(stub, pins, &pin, target, hook),
    }
}

fn stub(ebpf: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier, Error> {
    let program = ebpf.program_mut(hook.stub()).ok_or(Error::Part(hook.stub()))?;
    program.try_into().map_err(Error::program("take", hook.stub()))
}

fn attach_tcx(stub: &mut SchedClassifier, pin: &Path, interface: &str, hook: Hook) -> Result<(), Error> {
    if pin.exists() {
        if is_attached(pin, interface, hook) {
            return Ok(());
        }
        // Its interface is gone and another one got the index.
        fs::remove_file(pin).map_err(Error::file("remove the pin", pin))?;
    }
    let failed = Error::program("attach", hook.stub());
    let attached = stub
        .attach_with_options(
            interface,
            hook.direction(),
            TcAttachOptions::TcxOrder(LinkOrder::first()),
        )
        .and_then(|id| stub.take_link(id));
    let link = FdLink::try_from(attached.map_err(failed)?).map_err(|_| Error::Part("tcx link"))?;
    let pinned = link.pin(pin).map_err(Error::pin(pin))?;
    drop(pinned); // The pin holds the link; closing the handle detaches nothing.
    Ok(())
}

/// Whether the pinned link's program runs on the interface.
fn is_attached(pin: &Path, interface: &str, hook: Hook) -> bool {
    let pinned = PinnedLink::from_pin(pin)
        .and_then(|link| FdLink::from(link).info())
        .map(|info| info.program_id());
    let running = SchedClassifier::query_tcx(interface, hook.direction());
    matches!((pinned, running), (Ok(id), Ok((_, programs))) if programs.iter().any(|program| program.id() == id))
}

fn attach_clsact(
    stub: &mut SchedClassifier,
    pins: &Pins,
    pin: &Path,
    target: Target<'_>,
    hook: Hook,
) -> Result<(), Error> {
    ensure_clsact(pins, target)?;
    let options = NlOptions {
        priority: CLSACT_PRIORITY,
        handle: CLSACT_HANDLE,
        classid: None,
    };
    let attached = match stub.attach_with_options(target.name, hook.direction(), TcAttachOptions::Netlink(options)) {
        Err(e) if netlink_errno(&e) == Some(nix::libc::EEXIST) => {
            clsact_link(target.name, hook).and_then(|link| stub.attach_to_link(link))
        }
        other => other,
    };
    let link = attached
        .and_then(|id| stub.take_link(id))
        .map_err(Error::program("attach", hook.stub()))?;
    std::mem::forget(link); // Dropping it would remove the filter.
    if pin.exists() {
        fs::remove_file(pin).map_err(Error::file("remove the pin", pin))?;
    }
    stub.pin(pin).map_err(Error::pin(pin))
}

/// The filter of ours on an interface.
fn clsact_link(interface: &str, hook: Hook) -> Result<SchedClassifierLink, ProgramError> {
    SchedClassifierLink::attached(interface, hook.direction(), CLSACT_PRIORITY, CLSACT_HANDLE, None)
        .map_err(|e| ProgramError::from(TcError::from(e)))
}

fn ensure_clsact(pins: &Pins, target: Target<'_>) -> Result<(), Error> {
    match tc::qdisc_add_clsact(target.name) {
        Ok(()) => {
            let marker = pins.qdisc(target.ifindex);
            fs::create_dir_all(&marker).map_err(Error::file("make the folder", marker))
        }
        Err(TcError::NetlinkError(e)) if e.raw_os_error() == Some(nix::libc::EEXIST) => Ok(()),
        Err(e) => Err(Error::program("attach", "clsact")(e.into())),
    }
}

fn netlink_errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::TcError(TcError::NetlinkError(e)) | ProgramError::NetlinkError(e) => e.raw_os_error(),
        _ => None,
    }
}

/// Takes a stub off an interface and removes its pin. An interface that is gone took its stub along.
pub(crate) fn detach(pin: &Path, interface: Option<&str>, hook: Hook, mechanism: Mechanism) -> Result<(), Error> {
    if let (Mechanism::Clsact, Some(interface)) = (mechanism, interface) {
        let detached = clsact_link(interface, hook).map(drop); // Dropping it removes the filter.
        detached.map_err(Error::program("detach", hook.stub()))?;
    }
    fs::remove_file(pin).map_err(Error::file("remove the pin", pin))
}
