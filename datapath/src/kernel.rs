//! What this kernel can do, and what we may do on it.

use std::fs;

use aya::programs::{SchedClassifier, TcAttachType};
use nix::sys::utsname::uname;

use crate::attach::Mechanism;
use crate::error::Error;

/// Oldest kernel on which the programs are tested.
const FLOOR: (u32, u32) = (6, 1);
/// `BPF_F_ADJ_ROOM_DECAP_L3_IPV4` and `_IPV6` came with this version.
const DECAP_L3: (u32, u32) = (6, 3);

/// Bits of `CapEff` (linux/capability.h). CAP_SYS_ADMIN stands for what it includes.
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (39, "CAP_BPF")];

/// What the kernel can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Its release, as `6.1.0-30-cloud-amd64`.
    pub(crate) release: String,
    /// Programs attach by tcx links (Linux 6.6).
    pub(crate) tcx: bool,
    /// Shrinking a packet can tell which protocol is inside (Linux 6.3).
    pub(crate) decap_l3: bool,
}

impl Kernel {
    /// Asks the running kernel; an error if it or the process's capabilities do not suffice.
    pub(crate) fn probe() -> Result<Self, Error> {
        check_capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default())?;
        let release = uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        let version = version(&release).filter(|version| *version >= FLOOR);
        let Some(version) = version else {
            return Err(Error::Kernel(release));
        };
        let tcx = SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok();
        Ok(Self {
            release,
            tcx,
            decap_l3: version >= DECAP_L3,
        })
    }

    /// How stubs are attached.
    pub(crate) fn mechanism(&self) -> Mechanism {
        if self.tcx { Mechanism::Tcx } else { Mechanism::Clsact }
    }

    /// `KERNEL_*` of the settings.
    pub(crate) fn flags(&self) -> u32 {
        if self.decap_l3 {
            datapath_common::KERNEL_DECAP_L3
        } else {
            0
        }
    }

    /// What is lacking and what is done instead.
    pub(crate) fn fallbacks(&self) -> Vec<String> {
        let lacking = [
            (
                self.tcx,
                "no tcx before Linux 6.6: programs are attached as clsact filters",
            ),
            (
                self.decap_l3,
                "no BPF_F_ADJ_ROOM_DECAP_L3 before Linux 6.3: packets of the other IP version than their \
                tunnel's go through the host side of the workload's interface",
            ),
        ];
        lacking
            .into_iter()
            .filter(|(there, _)| !there)
            .map(|(_, text)| text.to_owned())
            .collect()
    }
}

fn check_capabilities(status: &str) -> Result<(), Error> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or_default();
    match CAPABILITIES.into_iter().find(|(bit, _)| effective >> bit & 1 == 0) {
        Some((_, name)) => Err(Error::Capability(name)),
        None => Ok(()),
    }
}

/// Major and minor version of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        let table = [
            ("6.1.0-30-cloud-amd64", Some((6, 1))),
            ("6.12", Some((6, 12))),
            ("six", None),
            ("", None),
        ];
        for (release, expected) in table {
            assert_eq!(version(release), expected, "{release}");
        }
    }

    #[test]
    fn a_missing_capability_is_named() {
        let missing = |status: &str| match check_capabilities(status) {
            Err(Error::Capability(name)) => Some(name),
            _ => None,
        };
        assert_eq!(missing("CapEff:\t000001ffffffffff"), None);
        assert_eq!(missing("CapEff:\t0000017fffffffff"), Some("CAP_BPF"));
        assert_eq!(missing("CapEff:\t0000000000000000"), Some("CAP_NET_ADMIN"));
        assert_eq!(missing(""), Some("CAP_NET_ADMIN"));
    }

    #[test]
    fn a_lacking_kernel_names_its_fallbacks() {
        let kernel = Kernel {
            release: "6.1".into(),
            tcx: false,
            decap_l3: false,
        };
        assert_eq!(kernel.fallbacks().len(), 2);
        assert_eq!(
            Kernel {
                tcx: true,
                decap_l3: true,
                ..kernel
            }
            .fallbacks(),
            Vec::<String>::new()
        );
    }
}
