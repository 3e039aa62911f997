//! The way of packets to user space and back: what rules ask for is read from a ring buffer, what is to be delivered is
//! written to a tap. What the bytes mean is `datapath_common::punt`'s business. Both end with the value that has them: a
//! process that is gone answers nobody.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, RingBuf};
use aya::programs::tc::{SchedClassifierLink, qdisc_add_clsact};
use aya::programs::{SchedClassifier, TcAttachType};
use datapath_common::punt::{PuntHeader, PuntKey, PuntRule};
use nix::libc::{self, c_char, ifreq};

use crate::error::Error;
use crate::object;

const RULES: &str = "PUNT_RULES";
const RING: &str = "PUNTS";
const PROGRAM: &str = "from_punt";
const TUN: &str = "/dev/net/tun";
/// Bytes of an Ethernet header; that of the envelope has the ethertype of IPv4 in its last two.
const ETHERNET: usize = 14;
const ENVELOPE: [u8; ETHERNET] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0];
const HEADER: usize = size_of::<PuntHeader>();

nix::ioctl_write_ptr_bad!(
    /// Makes the file a tap's.
    tunsetiff,
    nix::request_code_write!(b'T', 202, size_of::<i32>()),
    ifreq
);
nix::ioctl_write_ptr_bad!(
    /// Sets an interface's flags.
    set_flags,
    libc::SIOCSIFFLAGS,
    ifreq
);

/// A packet of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Punted {
    /// The domain's number.
    pub domain: u32,
    /// Number of the endpoint that sent it.
    pub endpoint: u32,
    /// Segment.
    pub vni: u32,
    /// What the rule calls it.
    pub kind: u32,
    /// Bytes of the frame, of which `frame` may be the first.
    pub length: u32,
    /// From its Ethernet header on.
    pub frame: Vec<u8>,
}

/// Who gets a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receiver {
    /// The domain's number.
    pub domain: u32,
    /// The endpoint's number.
    pub endpoint: u32,
    /// Segment.
    pub vni: u32,
}

/// The way to user space and back.
pub struct Punts {
    ring: RingBuf<MapData>,
    rules: HashMap<MapData, PuntKey, PuntRule>,
    asked: BTreeSet<PuntKey>,
    tap: File,
    /// Detaches when it is dropped.
    _link: SchedClassifierLink,
}

impl fmt::Debug for Punts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Punts")
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

impl Punts {
    /// Opens the ring of loaded programs and makes the tap, which is gone when this is dropped.
    pub fn open(ebpf: &mut Ebpf, interface: &str) -> Result<Self, Error> {
        let ring = RingBuf::try_from(again(ebpf, RING)?).map_err(Error::map("open", RING))?;
        let rules = HashMap::try_from(again(ebpf, RULES)?).map_err(Error::map("open", RULES))?;
        let tap = tap(interface).map_err(Error::file("make a tap with", TUN))?;
        let program = ebpf.program_mut(PROGRAM).ok_or(Error::Part(PROGRAM))?;
        let program: &mut SchedClassifier = program.try_into().map_err(Error::program("load", PROGRAM))?;
        if program.fd().is_err() {
            object::load(program).map_err(Error::program("load", PROGRAM))?;
        }
        // Before Linux 6.6 it is needed, after it is of no use.
        let _ = qdisc_add_clsact(interface);
        let link = program
            .attach(interface, TcAttachType::Ingress)
            .and_then(|id| program.take_link(id))
            .map_err(Error::program("attach", PROGRAM))?;
        Ok(Self {
            ring,
            rules,
            asked: BTreeSet::new(),
            tap,
            _link: link,
        })
    }

    /// Asks for the packets that a rule speaks of. Flows that were decided before go on as they do.
    pub fn ask(&mut self, key: PuntKey, rule: PuntRule) -> Result<(), Error> {
        self.rules.insert(key, rule, 0).map_err(Error::map("write", RULES))?;
        self.asked.insert(key);
        Ok(())
    }

    /// The next packet, if there is one.
    pub fn receive(&mut self) -> Option<Punted> {
        let record = self.ring.next()?;
        let (header, frame) = record.split_at_checked(HEADER)?;
        let word = |index: usize| {
            let bytes = header.get(4 * index..4 * index + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        Some(Punted {
            domain: word(0)?,
            endpoint: word(1)?,
            vni: word(2)?,
            kind: word(3)?,
            length: word(4)?,
            frame: frame.to_vec(),
        })
    }

    /// Has a frame delivered to an endpoint, for whose MAC address it is, if the endpoint's rules allow it.
    pub fn deliver(&mut self, to: Receiver, frame: &[u8]) -> Result<(), Error> {
        let failed = Error::file("write to", TUN);
        if frame.len() < ETHERNET {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        let header = [to.domain, to.endpoint, to.vni, 0, 0, 0].map(u32::to_ne_bytes);
        let packet = [&ENVELOPE[..], header.as_flattened(), frame].concat();
        self.tap.write_all(&packet).map_err(failed)
    }
}

impl Drop for Punts {
    fn drop(&mut self) {
        for key in &self.asked {
            // Nobody takes them from here on; where it fails, the map is gone.
            let _ = self.rules.remove(key);
        }
    }
}

/// A map of the object, which stays with it.
fn again(ebpf: &Ebpf, name: &'static str) -> Result<Map, Error> {
    let (Some(Map::RingBuf(data)) | Some(Map::HashMap(data))) = ebpf.map(name) else {
        return Err(Error::Part(name));
    };
    data.info()
        .and_then(|info| MapData::from_id(info.id()))
        .and_then(Map::from_map_data)
        .map_err(Error::map("open", name))
}

/// A tap that is up.
fn tap(name: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(TUN)?;
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
    // SAFETY: the request outlives the call, which reads it.
    unsafe { tunsetiff(file.as_raw_fd(), &raw const request) }?;
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
    // SAFETY: as above.
    unsafe { set_flags(socket.as_raw_fd(), &raw const request) }?;
    Ok(file)
}

/// About the interface of this name.
fn request(name: &str) -> io::Result<ifreq> {
    // SAFETY: integers and arrays of them, for which zero is valid.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    Ok(request)
}
