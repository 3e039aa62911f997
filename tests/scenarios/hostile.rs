//! Crafted frames: each kind is dropped and counted under its own reason, and no workload sees any of them.
//!
//! `red-web-1` on `fab1` is the attacker where a workload attacks; `red-web-2` on `fab2` is always the victim. Frames
//! off the underlay are put in on fab2's cable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use fabric_tests::capture::Capture;
use fabric_tests::deadline::eventually;
use fabric_tests::frame::{self, Station};
use fabric_tests::lab::{Lab, Underlay, Workload};
use fabric_tests::scenario::{Step, on_lab, step};
use fabric_tests::stage::{From, host, host_side, ipv4, ipv6, must_drop, vni};
use fabric_tests::wire::send_frames;

/// A MAC address that nobody has.
const NOBODY: [u8; 6] = [0x02, 0xba, 0xdb, 0xad, 0xba, 0xd0];
/// UDP port of every hostile datagram, by which the victim would know it.
const PORT: u16 = 40666;
/// UDP port of the datagram that is well-behaved.
const GOOD_PORT: u16 = 40667;
/// A bit of VXLAN's first byte that means nothing (RFC 7348 section 5).
const RESERVED: u8 = 0x80;

fn main() -> ExitCode {
    on_lab("hostile", 3, Underlay::Ipv4, steps())
}

fn steps() -> Vec<Step<Lab>> {
    vec![
        step("a_frame_of_the_right_sender_arrives", control),
        step("foreign_source_mac", |lab| {
            from_workload(lab, "source_mac", |s| frame::udp(s.nobody4(), ipv4(s.victim), PORT))
        }),
        step("foreign_source_ipv4", |lab| {
            from_workload(lab, "source_address", |s| {
                frame::udp(
                    Station {
                        ip: s.third.ipv4,
                        ..ipv4(s.attacker)
                    },
                    ipv4(s.victim),
                    PORT,
                )
            })
        }),
        step("foreign_source_ipv6", |lab| {
            from_workload(lab, "source_address", |s| {
                frame::udp(
                    Station {
                        ip: s.third.ipv6,
                        ..ipv6(s.attacker)
                    },
                    ipv6(s.victim),
                    PORT,
                )
            })
        }),
        step("arp_answer_for_somebody_else", |lab| {
            from_workload(lab, "neighbour_spoof", |s| {
                let claim = Station {
                    ip: s.third.ipv4,
                    ..ipv4(s.attacker)
                };
                frame::arp_reply(s.attacker.mac, claim, ipv4(s.victim))
            })
        }),
        step("neighbour_advertisement_for_somebody_else", |lab| {
            from_workload(lab, "neighbour_spoof", |s| {
                let IpAddr::V6(theirs) = s.third.ipv6 else {
                    anyhow::bail!("not IPv6")
                };
                frame::neighbour_advertisement(ipv6(s.attacker), ipv6(s.victim), theirs)
            })
        }),
        step("router_advertisement", |lab| {
            from_workload(lab, "rogue_server", |s| {
                let link_local = Station {
                    ip: frame::link_local(s.attacker.mac).into(),
                    ..ipv6(s.attacker)
                };
                let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
                let to = Station {
                    mac: [0x33, 0x33, 0, 0, 0, 1],
                    ip: all_nodes.into(),
                };
                frame::router_advertisement(link_local, to)
            })
        }),
        step("dhcp_offer", |lab| {
            from_workload(lab, "rogue_server", |s| {
                frame::dhcp_offer(ipv4(s.attacker), ipv4(s.victim))
            })
        }),
        step("the_hosts_own_link_local_address", host_link),
        step("unknown_destination_mac", |lab| {
            from_workload(lab, "unknown_destination", |s| {
                frame::udp(
                    ipv4(s.attacker),
                    Station {
                        mac: NOBODY,
                        ..ipv4(s.victim)
                    },
                    PORT,
                )
            })
        }),
        step("vlan_tag", |lab| {
            // VLAN 5 (IEEE 802.1Q), and in it IEEE 802's local experimental ethertype 1.
            let mut payload = [0; 50];
            payload[..4].copy_from_slice(&[0, 5, 0x88, 0xb5]);
            from_workload(lab, "ether_type", move |s| {
                Ok(frame::ethernet(s.attacker.mac, s.victim.mac, 0x8100, &payload))
            })
        }),
        step("truncated_ip_from_a_workload", |lab| {
            from_workload(lab, "truncated", |s| {
                let whole = frame::udp(ipv4(s.attacker), ipv4(s.victim), PORT)?;
                Ok(whole.get(..14 + 10).context("short")?.to_vec())
            })
        }),
        step("vxlan_from_an_unknown_address", |lab| {
            off_the_underlay(lab, "unknown_vtep", |s| {
                let stranger = Station {
                    ip: Ipv4Addr::new(192, 0, 2, 200).into(),
                    ..s.attackers_host
                };
                frame::vxlan(stranger, s.victims_host, s.vni, &s.good()?)
            })
        }),
        step("source_mac_that_lives_at_another_vtep", |lab| {
            off_the_underlay(lab, "wrong_vtep", |s| {
                frame::vxlan(s.thirds_host, s.victims_host, s.vni, &s.hostile()?)
            })
        }),
        step("source_address_that_lives_at_another_vtep", |lab| {
            off_the_underlay(lab, "wrong_vtep", |s| {
                let from = Station {
                    ip: s.third.ipv4,
                    ..ipv4(s.attacker)
                };
                frame::vxlan(
                    s.attackers_host,
                    s.victims_host,
                    s.vni,
                    &frame::udp(from, ipv4(s.victim), PORT)?,
                )
            })
        }),
        step("source_of_another_domain", |lab| {
            off_the_underlay(lab, "wrong_vtep", |s| {
                frame::vxlan(s.attackers_host, s.victims_host, s.other_vni, &s.hostile()?)
            })
        }),
        step("vni_that_nobody_uses", |lab| {
            off_the_underlay(lab, "unknown_vni", |s| {
                let unused = (1..)
                    .find(|n| *n != s.vni && *n != s.other_vni)
                    .context("no number is free")?;
                frame::vxlan(s.attackers_host, s.victims_host, unused, &s.hostile()?)
            })
        }),
        step("vxlan_without_the_i_flag", |lab| {
            off_the_underlay(lab, "vxlan_flags", |s| {
                let payload = [&frame::vxlan_header(0, s.vni)[..], &s.hostile()?].concat();
                frame::tunnel(s.attackers_host, s.victims_host, &payload)
            })
        }),
        step("reserved_bits_of_vxlan", reserved_bits),
        step("truncated_vxlan_header", |lab| {
            off_the_underlay(lab, "truncated", |s| {
                frame::tunnel(s.attackers_host, s.victims_host, &[frame::VNI_VALID, 0, 0, 0])
            })
        }),
        step("truncated_inner_ethernet", |lab| truncated_inner(lab, 10)),
        step("truncated_inner_ip", |lab| truncated_inner(lab, 14 + 8)),
        step("tunnelled_frame_for_a_station_that_is_elsewhere", |lab| {
            off_the_underlay(lab, "not_here", |s| {
                let inner = frame::udp(ipv4(s.attacker), ipv4(s.third), PORT)?;
                frame::vxlan(s.attackers_host, s.victims_host, s.vni, &inner)
            })
        }),
        step("fragmented_tunnel_packet", |lab| {
            off_the_underlay(lab, "outer_fragment", |s| {
                let payload = [&frame::vxlan_header(frame::VNI_VALID, s.vni)[..], &s.hostile()?].concat();
                frame::first_fragment(s.attackers_host, s.victims_host, &payload)
            })
        }),
    ]
}

/// Who is who.
struct Stage<'a> {
    attacker: &'a Workload,
    victim: &'a Workload,
    third: &'a Workload,
    attackers_host: Station,
    victims_host: Station,
    thirds_host: Station,
    vni: u32,
    other_vni: u32,
}

impl<'a> Stage<'a> {
    fn of(lab: &'a Lab) -> Result<Self> {
        Ok(Self {
            attacker: lab.workload("red-web-1")?,
            victim: lab.workload("red-web-2")?,
            third: lab.workload("red-web-3")?,
            attackers_host: host(lab, "fab1")?,
            victims_host: host(lab, "fab2")?,
            thirds_host: host(lab, "fab3")?,
            vni: vni(lab, "red", "lan")?,
            other_vni: vni(lab, "blue", "lan")?,
        })
    }

    fn nobody4(&self) -> Station {
        Station {
            mac: NOBODY,
            ..ipv4(self.attacker)
        }
    }

    /// A datagram that the attacker may send, but for its port.
    fn hostile(&self) -> Result<Vec<u8>> {
        frame::udp(ipv4(self.attacker), ipv4(self.victim), PORT)
    }

    fn good(&self) -> Result<Vec<u8>> {
        frame::udp(ipv4(self.attacker), ipv4(self.victim), GOOD_PORT)
    }
}

/// The same builders and senders, with nothing wrong: without this the drops below would prove little.
fn control(lab: &Lab) -> Result<()> {
    let stage = Stage::of(lab)?;
    let capture = Capture::start(&stage.victim.netns, "eth0")?;
    send_frames(&stage.attacker.netns, "eth0", &[stage.good()?])?;
    let tunnelled = frame::vxlan(stage.attackers_host, stage.victims_host, stage.vni, &stage.good()?)?;
    send_frames(&lab.netns("underlay"), "fab2", &[tunnelled])?;
    seen(capture, GOOD_PORT, 2)
}

/// Ends a capture when so many datagrams of a port are in it.
fn seen(capture: Capture, port: u16, count: usize) -> Result<()> {
    eventually("the frames arrive", || {
        let seen = capture.so_far(&format!("udp port {port}"))?.len();
        anyhow::ensure!(seen >= count, "{seen} of {count} at {}", capture.place);
        Ok(())
    })
}

fn from_workload(lab: &Lab, reason: &str, make: impl FnOnce(&Stage<'_>) -> Result<Vec<u8>>) -> Result<()> {
    let stage = Stage::of(lab)?;
    let frame = make(&stage)?;
    unseen(&stage, || must_drop(lab, From::Workload(stage.attacker), frame, reason))
}

fn off_the_underlay(lab: &Lab, reason: &str, make: impl FnOnce(&Stage<'_>) -> Result<Vec<u8>>) -> Result<()> {
    let stage = Stage::of(lab)?;
    let frame = make(&stage)?;
    unseen(&stage, || must_drop(lab, From::Underlay("fab2"), frame, reason))
}

/// Neither victim nor third saw a frame of what `act` sent; both see what is well-behaved behind it.
fn unseen(stage: &Stage<'_>, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let capture = Capture::start(&stage.victim.netns, "eth0")?;
    act()?;
    // Behind the hostile frames on the same way: when it is there, they would have been.
    send_frames(&stage.attacker.netns, "eth0", &[stage.good()?])?;
    eventually("a well-behaved frame arrives", || {
        anyhow::ensure!(
            !capture.so_far(&format!("udp port {GOOD_PORT}"))?.is_empty(),
            "nothing at {}",
            capture.place
        );
        Ok(())
    })?;
    let captured = capture.stop()?;
    captured.must_lack(&format!("udp port {PORT} or udp port 67 or ether proto 0x88b5"))?;
    captured.must_lack("icmp6 and (ip6[40] == 134 or ip6[40] == 136)")?;
    captured.must_lack(&format!("arp[6:2] == 2 and arp src host {}", stage.third.ipv4))
}

/// They are ignored and counted, or drop the packet where the host is told so.
fn reserved_bits(lab: &Lab) -> Result<()> {
    let stage = Stage::of(lab)?;
    let counted = || -> Result<u64> {
        let status = lab.json("fab2", &["status"])?;
        status["datapath"]["vxlan_reserved"].as_u64().context("vxlan_reserved")
    };
    let tunnelled = |frame: Vec<u8>| {
        let header = frame::vxlan_header(frame::VNI_VALID | RESERVED, stage.vni);
        frame::tunnel(
            stage.attackers_host,
            stage.victims_host,
            &[&header[..], &frame].concat(),
        )
    };
    let before = counted()?;
    let capture = Capture::start(&stage.victim.netns, "eth0")?;
    send_frames(&lab.netns("underlay"), "fab2", &[tunnelled(stage.good()?)?])?;
    seen(capture, GOOD_PORT, 1)?;
    eventually("it is counted", || {
        anyhow::ensure!(counted()? > before, "{before}");
        Ok(())
    })?;

    let path = lab.host_folder("fab2").join("config.toml");
    let config = std::fs::read_to_string(&path)?;
    std::fs::write(&path, format!("{config}\n[underlay]\nstrict_vxlan = true\n"))?;
    let again = || lab.sh(&["kill", "fab2"]).and_then(|()| lab.sh(&["start", "fab2"]));
    again()?;
    let frame = tunnelled(stage.hostile()?)?;
    unseen(&stage, || {
        must_drop(lab, From::Underlay("fab2"), frame, "vxlan_reserved")
    })?;
    std::fs::write(&path, config)?;
    again()
}

fn host_link(lab: &Lab) -> Result<()> {
    let (_, mac) = host_side(lab, lab.workload("red-web-1")?)?;
    from_workload(lab, "host_link", |stage| {
        let to = Station {
            mac,
            ip: frame::link_local(mac).into(),
        };
        let from = Station {
            ip: frame::link_local(stage.attacker.mac).into(),
            ..ipv6(stage.attacker)
        };
        frame::udp(from, to, PORT)
    })
}

fn truncated_inner(lab: &Lab, bytes: usize) -> Result<()> {
    off_the_underlay(lab, "truncated", |stage| {
        let inner = stage.hostile()?;
        let inner = inner.get(..bytes).context("short")?;
        frame::vxlan(stage.attackers_host, stage.victims_host, stage.vni, inner)
    })
}
