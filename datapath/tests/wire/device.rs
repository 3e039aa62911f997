//! A host's tunnel device, which carries what the programs cannot.

use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::tc::TcAttachType;
use datapath_common::{SLOT_FROM_UNDERLAY, Settings};

use crate::host::{Host, VXLAN};

/// The tunnel device of a host that has one.
pub(crate) const DEVICE: &str = "fabvx0";

impl Host {
    /// Gives the host a tunnel device of the kernel, as the datapath makes it.
    pub(crate) fn device(&mut self) {
        let line = format!(
            "link add {DEVICE} type vxlan external dstport {VXLAN} srcport 49152 65535 nolearning udp6zerocsumrx"
        );
        self.namespace.ip(&line.split(' ').collect::<Vec<_>>());
        self.attach(DEVICE, "stub_from_device", TcAttachType::Ingress);
        self.namespace
            .ip(&["link", "set", DEVICE, "arp", "off", "addrgenmode", "none", "up"]);
        self.set(Settings {
            vxlan_device: self.namespace.ifindex(DEVICE),
            ..self.settings
        });
    }

    /// Takes the program of the underlay away: tunnel packets go to the host's stack.
    pub(crate) fn deafen(&mut self) {
        let map = self.ebpf.map_mut("PROGRAMS").expect("the map exists");
        let mut programs: ProgramArray<&mut MapData> = map.try_into().expect("a program array");
        programs.clear_index(&SLOT_FROM_UNDERLAY).expect("it was there");
    }

    /// Changes the settings.
    pub(crate) fn set(&mut self, settings: Settings) {
        self.settings = settings;
        let map = self.ebpf.map_mut("SETTINGS").expect("the map exists");
        Array::<&mut MapData, Settings>::try_from(map)
            .expect("settings")
            .set(0, settings, 0)
            .expect("it is taken");
    }
}
