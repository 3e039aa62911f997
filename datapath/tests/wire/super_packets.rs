//! A virtual machine whose network device segments for it (`IFF_VNET_HDR`, TSO): super-packets go in and come out of a tap.
//! The machine is this test, with as much of TCP as a stream on a wire that loses nothing needs.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::thread;
use std::time::Duration;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::identity::Identity;
use crate::namespace::{DEADLINE, Namespace, privileged};
use crate::tap::made;
use crate::topology::{FAR, ONE, TWO, Wire};
use crate::traffic::received;
use crate::underlay::{UNDERLAY, Way};
use crate::workload::MTU;

nix::ioctl_write_int_bad!(
    /// What the machine's device can do.
    tunsetoffload,
    nix::request_code_write!(b'T', 208, size_of::<u32>())
);

/// `TUN_F_CSUM`, `TUN_F_TSO4`, `TUN_F_TSO6`.
const CAN: i32 = 1 | 2 | 4;
/// `struct virtio_net_hdr` (virtio 1.2 section 5.1.6), as taps have it by default.
const HEADER: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;
const TCP4: u8 = 1;
const TCP6: u8 = 4;
/// How long to wait until a packet is taken for lost, and how often it is sent.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 5;
const ETHERNET: usize = 14;
const TCP: usize = 20;

/// A frame that came out of the tap.
struct Came {
    /// Payload of a segment; 0 if it is no super-packet.
    segment: u16,
    sequence: u32,
    acknowledged: u32,
    syn: bool,
    fin: bool,
    payload: Vec<u8>,
}

/// The machine's end of one connection.
struct Machine {
    tap: File,
    to: Identity,
    v6: bool,
    /// Its port, then the other end's.
    own: u16,
    port: u16,
    sent: u32,
    /// What it has got, up to which all is there.
    next: u32,
}

impl Machine {
    fn ip(&self) -> usize {
        if self.v6 { 40 } else { 20 }
    }

    /// The largest payload of a segment.
    fn most(&self) -> usize {
        MTU as usize - self.ip() - TCP
    }

    /// Sends one packet, however large; its checksum is left to the device, and cutting it, too.
    fn send(&mut self, flags: &str, payload: &[u8]) {
        let mut tcp = TcpHeader::new(self.own, self.port, self.sent, 65_000);
        tcp.syn = flags.contains('S');
        tcp.fin = flags.contains('F');
        tcp.psh = !payload.is_empty();
        tcp.ack = flags.contains('A');
        tcp.acknowledgment_number = self.next;
        let link = PacketBuilder::ethernet2(ONE.mac(), self.to.mac());
        let ip = if self.v6 {
            link.ipv6(ONE.v6(), self.to.v6(), 64)
        } else {
            link.ipv4(ONE.v4(), self.to.v4(), 64)
        };
        if tcp.syn {
            let most = TcpOptionElement::MaximumSegmentSize(u16::try_from(self.most()).expect("small"));
            tcp.set_options(&[most]).expect("it fits");
        }
        let counted = u32::from(tcp.syn) + u32::from(tcp.fin);
        let mut frame = Vec::new();
        ip.tcp_header(tcp)
            .write(&mut frame, payload)
            .expect("a vector takes it");
        let start = ETHERNET + self.ip();
        self.leave_checksum(&mut frame, start);
        let large = payload.len() > self.most();
        let kind = match (large, self.v6) {
            (false, _) => 0,
            (true, false) => TCP4,
            (true, true) => TCP6,
        };
        let mut packet = vec![NEEDS_CHECKSUM, kind];
        for number in [start + TCP, if large { self.most() } else { 0 }, start, 16] {
            packet.extend(u16::try_from(number).expect("small").to_ne_bytes());
        }
        packet.extend(frame);
        assert_eq!(self.tap.write(&packet).expect("the tap takes it"), packet.len());
        let length = u32::try_from(payload.len()).expect("a packet");
        self.sent = self.sent.wrapping_add(length + counted);
    }

    /// Leaves the sum of the pseudo header where the checksum will be.
    fn leave_checksum(&self, frame: &mut [u8], start: usize) {
        let addresses = if self.v6 {
            ETHERNET + 8..ETHERNET + 40
        } else {
            ETHERNET + 12..ETHERNET + 20
        };
        let words = frame[addresses]
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let mut sum: u32 = words.sum::<u32>() + 6 + u32::try_from(frame.len() - start).expect("a packet");
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        frame[start + 16..start + 18].copy_from_slice(&u16::try_from(sum).expect("folded").to_be_bytes());
    }

    /// Sends one packet, again if it is lost, until the other end has it.
    fn deliver(&mut self, flags: &str, payload: &[u8]) -> Came {
        let before = self.sent;
        for _ in 0..ATTEMPTS {
            self.sent = before;
            self.send(flags, payload);
            while let Some(came) = self.receive(PATIENCE) {
                if came.acknowledged == self.sent {
                    return came;
                }
            }
        }
        panic!("nobody acknowledges {} bytes", payload.len());
    }

    /// The next packet of the connection, within a deadline.
    fn receive(&mut self, deadline: Duration) -> Option<Came> {
        let timeout = PollTimeout::try_from(deadline).expect("a few seconds");
        let mut buffer = vec![0; 1 << 17];
        loop {
            let mut ready = [PollFd::new(self.tap.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, timeout).expect("the tap is there") == 0 {
                return None;
            }
            let length = self.tap.read(&mut buffer).expect("a frame is there");
            if let Some(came) = self.read(&buffer[..length]) {
                return Some(came);
            }
        }
    }

    fn read(&self, packet: &[u8]) -> Option<Came> {
        let (header, frame) = packet.split_at(HEADER);
        let sliced = SlicedPacket::from_ethernet(frame).expect("a frame");
        let TransportSlice::Tcp(tcp) = sliced.transport? else {
            return None;
        };
        assert_eq!(matches!(sliced.net?, NetSlice::Ipv6(_)), self.v6);
        let segment = u16::from_ne_bytes([header[4], header[5]]);
        if header[1] != 0 {
            assert_eq!(header[1] & 0x7f, if self.v6 { TCP6 } else { TCP4 }, "cut by the device");
        }
        (tcp.destination_port() == self.own).then(|| Came {
            segment,
            sequence: tcp.sequence_number(),
            acknowledged: tcp.acknowledgment_number(),
            syn: tcp.syn(),
            fin: tcp.fin(),
            payload: tcp.payload().to_vec(),
        })
    }

    fn connect(&mut self) {
        let answer = self.deliver("S", b"");
        assert!(answer.syn, "the other end opens, too");
        self.next = answer.sequence.wrapping_add(1);
        self.send("A", b"");
    }
}

/// What the machine sends: super-packets of all lengths, after a few small ones.
fn upload(machine: &mut Machine) -> Vec<u8> {
    let most = machine.most();
    let mut all = Vec::new();
    for length in [1, most - 1, most, most + 1, 2 * most, 10 * most + 7, 60_000] {
        let start = all.len();
        all.extend((start..start + length).map(|byte| (byte >> 8 ^ byte) as u8));
        machine.deliver("A", &all[start..]);
    }
    machine.deliver("AF", b"");
    all
}

/// What arrives at the machine in order, until the other end closes; and the largest packet of it.
fn download(machine: &mut Machine) -> (Vec<u8>, usize) {
    let (mut all, mut largest) = (Vec::new(), 0);
    loop {
        let came = machine.receive(DEADLINE).expect("something comes");
        if came.sequence != machine.next {
            machine.send("A", b"");
            continue;
        }
        assert!(
            came.payload.len() <= machine.most() || came.segment != 0,
            "a super-packet says its segments' size"
        );
        largest = largest.max(came.payload.len());
        all.extend(&came.payload);
        let length = u32::try_from(came.payload.len()).expect("a packet");
        machine.next = machine.next.wrapping_add(length + u32::from(came.fin));
        machine.send("A", b"");
        if came.fin {
            return (all, largest);
        }
    }
}

fn machine(wire: &Wire, to: Identity, v6: bool, port: u16) -> Machine {
    let tap = wire.a.namespace.run(|| {
        let tap = made("tap0", libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR);
        // SAFETY: an integer of flags.
        unsafe { tunsetoffload(tap.as_raw_fd(), CAN) }.expect("taps can");
        tap
    });
    Machine {
        tap,
        to,
        v6,
        own: 40_000,
        port,
        sent: 1_000,
        next: 0,
    }
}

fn to_workload(wire: &mut Wire, workload: &Namespace, identity: Identity, v6: bool) {
    let address = identity.addresses()[usize::from(v6)];
    let listener = workload.run(|| TcpListener::bind(SocketAddr::new(address, 0)).expect("the address is there"));
    let port = listener.local_addr().expect("it is bound").port();
    let mut machine = machine(wire, identity, v6, port);
    wire.a.port(ONE, "tap0", 0);
    thread::scope(|scope| {
        let arrived = scope.spawn(|| received(&listener));
        machine.connect();
        let sent = upload(&mut machine);
        assert!(
            arrived.join().expect("it does not panic") == sent,
            "{address}: what was sent arrives"
        );
    });

    let sent: Vec<u8> = (0..400_000).map(|byte| (byte >> 8 ^ byte) as u8).collect();
    machine.sent = 900_000;
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let (mut stream, _): (TcpStream, _) = listener.accept().expect("a connection");
            stream.set_write_timeout(Some(DEADLINE)).expect("not zero");
            stream.write_all(&sent).expect("the stream leaves");
        });
        machine.own += 1;
        machine.connect();
        let (arrived, largest) = download(&mut machine);
        sender.join().expect("it does not panic");
        assert_eq!(arrived.len(), sent.len());
        assert!(arrived == sent, "{address}: what was sent arrives");
        // What came out of a tunnel is cut before the tap: the kernel still takes it for a tunnel's.
        let whole = largest > machine.most();
        assert!(
            whole || identity != TWO,
            "{address}: no super-packet came, but {largest} bytes at most"
        );
    });
}

#[test]
fn a_machine_whose_device_segments() {
    if !privileged() {
        return;
    }
    for way in [Way::over(false), Way::over(true).geneve()] {
        for v6 in [false, true] {
            let mut wire = Wire::new(way);
            let (two, far) = (wire.a.workload(TWO), wire.b.workload(FAR));
            to_workload(&mut wire, &two, TWO, v6);
            to_workload(&mut wire, &far, FAR, v6);
            // The kernel cuts what the programs put into a tunnel.
            wire.a
                .namespace
                .offload(UNDERLAY, &["tx", "off", "tso", "off", "gso", "off"]);
            to_workload(&mut wire, &far, FAR, v6);
        }
    }
}
