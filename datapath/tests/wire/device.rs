//! A host's tunnel device, which carries what the programs cannot.

use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::tc::TcAttachType;
use datapath_common::{SLOT_FROM_UNDERLAY, Settings};

use crate::host::{GENEVE, Host, VXLAN};
use crate::namespace::Namespace;

/// The tunnel device of a host that has one, of VXLAN or of Geneve.
pub(crate) const fn device(geneve: bool) -> &'static str {
    if geneve { "fabgn0" } else { "fabvx0" }
}

/// A counter of an interface.
pub(crate) fn counted(namespace: &Namespace, interface: &str, counter: &str) -> u64 {
    let shown = namespace.must("ip", &["-s", "-j", "link", "show", "dev", interface]);
    let (_, behind) = shown.split_once(&format!("\"{counter}\":")).expect("a side");
    let (_, behind) = behind.split_once("\"packets\":").expect("its packets");
    let digits: String = behind.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

impl Host {
    /// Gives the host a tunnel device of the kernel, of its tunnels' kind, as the datapath makes it.
    pub(crate) fn device(&mut self) {
        let name = device(self.geneve);
        let kind = if self.geneve {
            format!("geneve external dstport {GENEVE}")
        } else {
            format!("vxlan external dstport {VXLAN} srcport 49152 65535 nolearning")
        };
        let line = format!("link add {name} type {kind} udp6zerocsumrx");
        self.namespace.ip(&line.split(' ').collect::<Vec<_>>());
        self.attach(name, "stub_from_device", TcAttachType::Ingress);
        self.namespace
            .ip(&["link", "set", name, "arp", "off", "addrgenmode", "none", "up"]);
        let index = self.namespace.ifindex(name);
        let settings = self.settings;
        self.set(if self.geneve {
            Settings {
                geneve_device: index,
                ..settings
            }
        } else {
            Settings {
                vxlan_device: index,
                ..settings
            }
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
