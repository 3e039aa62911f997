//! From the embedded object to programs in their slots.

use std::fs;
use std::io::Read as _;

use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader};
use datapath_common::{KERNEL_STRICT, SLOT_PROGRAMS, Settings};

use crate::attach::Hook;
use crate::bpffs::Pins;
use crate::error::Error;
use crate::kernel::Kernel;
use crate::lower::Local;
use crate::maps::{self, Maps};
use crate::object::{self, OBJECT};
use crate::tables::address;

/// What was loaded: the maps, and the object, whose stubs are ready to be attached.
pub(crate) struct Loaded {
    pub(crate) maps: Maps,
    pub(crate) ebpf: Ebpf,
    /// First slot of the bank in which the programs call each other.
    pub(crate) bank: u32,
}

/// Loads the object onto the pinned maps (which it makes if they are not there), writes the settings, and puts the
/// programs that others call into the bank that is not in force. No packet meets them before [`enter`].
pub(crate) fn load(pins: &Pins, kernel: &Kernel, local: Local) -> Result<Loaded, Error> {
    pins.create()?;
    let bank = maps::spare_bank(pins)?;
    let mut loader = EbpfLoader::new();
    let pinned: Vec<_> = maps::of_object(pins).collect();
    for (name, path) in &pinned {
        loader.map_pin_path(name, path);
    }
    loader.override_global("BANK", &bank, true);
    let mut ebpf = loader.load(OBJECT)?;
    for hook in Hook::ALL {
        load_program(&mut ebpf, hook.stub())?;
    }
    for (_, program) in SLOT_PROGRAMS {
        load_program(&mut ebpf, program)?;
    }
    let mut maps = Maps::of(&ebpf, pins)?;
    write_settings(&mut maps, kernel, local)?;
    for (slot, program) in SLOT_PROGRAMS.into_iter().filter(|(_, name)| !is_entry(name)) {
        fill_slot(&ebpf, &mut maps, bank + slot, program)?;
    }
    Ok(Loaded { maps, ebpf, bank })
}

/// Lets all stubs, attached by whatever load, run the programs of this one from one map update a hook on.
pub(crate) fn enter(ebpf: &Ebpf, maps: &mut Maps, bank: u32) -> Result<(), Error> {
    for (slot, program) in SLOT_PROGRAMS.into_iter().filter(|(_, name)| is_entry(name)) {
        fill_slot(ebpf, maps, slot, program)?;
    }
    maps.set_bank(bank)
}

/// Puts the programs of this load back that somebody took out of their slots, those that stubs call where this load is in
/// force; whether there were some.
pub(crate) fn mend(ebpf: &Ebpf, maps: &mut Maps, bank: u32, is_in_force: bool) -> Result<bool, Error> {
    let mut mended = false;
    for (slot, name) in SLOT_PROGRAMS {
        let slot = match is_entry(name) {
            true if is_in_force => slot,
            true => continue,
            false => bank + slot,
        };
        let program = ebpf.program(name).ok_or(Error::Part(name))?;
        let program: &SchedClassifier = program.try_into().map_err(Error::program("load", name))?;
        let id = program.info().map_err(Error::program("look at", name))?.id();
        if maps.entered.get(&slot)? != Some(id) {
            fill_slot(ebpf, maps, slot, name)?;
            mended = true;
        }
    }
    Ok(mended)
}

/// Whether a stub calls it.
fn is_entry(program: &str) -> bool {
    Hook::ALL.into_iter().any(|hook| hook.program() == program)
}

fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<(), Error> {
    let program = ebpf.program_mut(name).ok_or(Error::Part(name))?;
    let program: &mut SchedClassifier = program.try_into().map_err(Error::program("load", name))?;
    object::load(program).map_err(Error::program("load", name))
}

fn fill_slot(ebpf: &Ebpf, maps: &mut Maps, slot: u32, name: &'static str) -> Result<(), Error> {
    let program = ebpf.program(name).ok_or(Error::Part(name))?;
    let program: &SchedClassifier = program.try_into().map_err(Error::program("load", name))?;
    let fd = program.fd().map_err(Error::program("load", name))?;
    maps.programs.set(slot, fd, 0).map_err(Error::map("write", "PROGRAMS"))
}

/// The mark stays as long as the pins do, so that packets in flight over a restart are known; and the tunnel devices,
/// until they are looked at.
fn write_settings(maps: &mut Maps, kernel: &Kernel, local: Local) -> Result<(), Error> {
    let before = maps.settings()?;
    let mark = maps.mark(random_mark)?;
    maps.set_settings(Settings {
        ipv4: local.ipv4.map_or([0; 16], |v4| address(v4.into())),
        ipv6: local.ipv6.map_or([0; 16], |v6| address(v6.into())),
        port: local.port.into(),
        geneve_port: local.geneve_port.into(),
        mark,
        kernel: kernel.flags() | if local.strict_vxlan { KERNEL_STRICT } else { 0 },
        vxlan_device: before.map_or(0, |settings| settings.vxlan_device),
        geneve_device: before.map_or(0, |settings| settings.geneve_device),
    })
}

/// Random and not zero, which is the mark of every packet that nobody marked.
fn random_mark() -> Result<u32, Error> {
    let path = "/dev/urandom";
    let mut bytes = [0; 4];
    let mut file = fs::File::open(path).map_err(Error::file("open", path))?;
    file.read_exact(&mut bytes).map_err(Error::file("read", path))?;
    Ok(u32::from_ne_bytes(bytes).max(1))
}
