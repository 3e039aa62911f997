//! Attaches the yardstick of `tests/bench.sh datapath`, the minimal tunnel of `ebpf/src/minimal.rs`, in the namespace it
//! runs in, prints the numbers of its programs (what a workload sends, what arrives) and stays until standard input ends.

use std::env;
use std::error::Error;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;

use aya::maps::HashMap;
use aya::programs::{SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader, Pod};
use datapath::object;
use nix::net::if_::if_nametoindex;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/minimal"));

const USAGE: &str = "usage: fabric-minimal \
    UPLINK OUR-ADDRESS OUR-MAC THEIR-ADDRESS THEIR-MAC \
    INTERFACE WORKLOAD-ADDRESS WORKLOAD-MAC FAR-WORKLOAD-ADDRESS FAR-WORKLOAD-MAC";
const VNI: u16 = 7;

/// As the program has it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tunnel {
    header: [u8; 64],
    sum: u32,
    ifindex: u32,
}

/// As the program has it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Workload {
    ethernet: [u8; 12],
    ifindex: u32,
}

// SAFETY: integers without padding.
unsafe impl Pod for Tunnel {}
// SAFETY: integers without padding.
unsafe impl Pod for Workload {}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [
        uplink,
        our_address,
        our_mac,
        their_address,
        their_mac,
        interface,
        address,
        address_mac,
        far,
        far_mac,
    ] = words[..]
    else {
        return Err(USAGE.into());
    };
    let mut ebpf = EbpfLoader::new().load(OBJECT)?;
    let (our_address, their_address): (Ipv4Addr, Ipv4Addr) = (our_address.parse()?, their_address.parse()?);
    let tunnel = tunnel(
        (our_address, mac(our_mac)?),
        (their_address, mac(their_mac)?),
        [mac(far_mac)?, mac(address_mac)?],
        if_nametoindex(uplink)?,
    );
    let far: Ipv4Addr = far.parse()?;
    let address: Ipv4Addr = address.parse()?;
    put(&mut ebpf, "TUNNELS", u32::from_ne_bytes(far.octets()), tunnel)?;
    let workload = Workload {
        ethernet: [mac(address_mac)?, mac(far_mac)?]
            .concat()
            .try_into()
            .map_err(|_| USAGE)?,
        ifindex: if_nametoindex(interface)?,
    };
    put(&mut ebpf, "WORKLOADS", u32::from_ne_bytes(address.octets()), workload)?;
    let send = attach(&mut ebpf, "minimal_send", interface)?;
    let receive = attach(&mut ebpf, "minimal_receive", uplink)?;
    writeln!(io::stdout(), "ready {send} {receive}")?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

fn mac(text: &str) -> Result<[u8; 6], Box<dyn Error>> {
    let octets: Vec<u8> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16))
        .collect::<Result<_, _>>()?;
    octets
        .try_into()
        .map_err(|_| format!("{text:?} is not a MAC address").into())
}

fn put<V: Pod>(ebpf: &mut Ebpf, map: &'static str, key: u32, value: V) -> Result<(), Box<dyn Error>> {
    let mut map: HashMap<_, u32, V> = HashMap::try_from(ebpf.map_mut(map).ok_or(map)?)?;
    Ok(map.insert(key, value, 0)?)
}

/// The program's number.
fn attach(ebpf: &mut Ebpf, program: &'static str, interface: &str) -> Result<u32, Box<dyn Error>> {
    let program: &mut SchedClassifier = ebpf.program_mut(program).ok_or(program)?.try_into()?;
    object::load(program)?;
    program.attach(interface, TcAttachType::Ingress)?;
    Ok(program.info()?.id())
}

/// The outer headers, lengths and checksums zero, and the workload's Ethernet header.
fn tunnel(ours: (Ipv4Addr, [u8; 6]), theirs: (Ipv4Addr, [u8; 6]), workloads: [[u8; 6]; 2], ifindex: u32) -> Tunnel {
    let mut header = [0; 64];
    header[..6].copy_from_slice(&theirs.1);
    header[6..12].copy_from_slice(&ours.1);
    header[12..14].copy_from_slice(&[0x08, 0]);
    header[14..24].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17]);
    header[26..30].copy_from_slice(&ours.0.octets());
    header[30..34].copy_from_slice(&theirs.0.octets());
    header[36..38].copy_from_slice(&4789_u16.to_be_bytes());
    header[42] = 0x08;
    header[47..49].copy_from_slice(&VNI.to_be_bytes());
    header[50..62].copy_from_slice(&workloads.concat());
    header[62..64].copy_from_slice(&[0x08, 0]);
    let sum = header[14..34]
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]])))
        .sum();
    Tunnel { header, sum, ifindex }
}
