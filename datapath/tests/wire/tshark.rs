//! What Wireshark makes of frames: an independent reader of every protocol.

use std::fs;
use std::process::Command;

use crate::namespace::must;

/// Per frame: what it is, how bad what Wireshark says about it is, in words, and the state of each checksum.
const FIELDS: [&str; 8] = [
    "frame.protocols",
    "_ws.expert.severity",
    "_ws.expert.message",
    "ip.checksum.status",
    "udp.checksum.status",
    "tcp.checksum.status",
    "icmp.checksum.status",
    "icmpv6.checksum.status",
];
const CHECKED: [&str; 3] = [
    "ip.check_checksum:TRUE",
    "udp.check_checksum:TRUE",
    "tcp.check_checksum:TRUE",
];
const READING: [&str; 2] = [
    // RFC 6935: a tunnel may have none over IPv6.
    "udp.ignore_ipv6_zero_checksum:TRUE",
    // Frames are captured on both sides of a tunnel.
    "tcp.analyze_sequence_numbers:FALSE",
];
/// What tunnels carry has ports by chance, and is no protocol. Tunnels come from higher ports, which would take precedence.
const DATA: [&str; 4] = [
    "udp.port==1-4788,data",
    "udp.port==4790-6080,data",
    "udp.port==6082-49151,data",
    "tcp.port==1-49151,data",
];
/// Of `_ws.expert.severity`: malformed frames and wrong checksums.
const ERROR: u32 = 0x80_0000;
const BAD: &str = "0";

/// A frame as Wireshark sees it.
#[derive(Debug)]
pub(crate) struct Dissected {
    /// Its headers' names, from the outermost on, with colons between.
    pub(crate) protocols: String,
    /// What is wrong with it, empty if nothing is.
    pub(crate) wrong: String,
}

impl Dissected {
    pub(crate) fn is_wrong(&self) -> bool {
        !self.wrong.is_empty() || self.protocols.contains("malformed")
    }

    /// Whether it is an ICMP error.
    fn quotes(&self) -> bool {
        self.protocols.contains("icmp:ip") || self.protocols.contains("icmpv6:ipv6")
    }
}

/// Dissects frames, of which none may be wrong.
pub(crate) fn dissected(what: &str, frames: &[Vec<u8>]) -> Vec<Dissected> {
    let mut all = dissect(frames);
    let (at, quoting): (Vec<usize>, Vec<Vec<u8>>) = (0..)
        .zip(frames)
        .filter(|(at, _)| all[*at].quotes())
        .map(|(at, frame)| (at, frame.clone()))
        .unzip();
    // What is quoted is cut, so that its own checksum means nothing.
    for (at, read) in at.into_iter().zip(dissect_by(&quoting, &CHECKED[..1])) {
        all[at] = read;
    }
    for (frame, read) in frames.iter().zip(&all) {
        let start = &frame[..frame.len().min(200)];
        assert!(
            !read.is_wrong(),
            "{what}: {read:?} of {} bytes: {start:02x?}",
            frame.len()
        );
    }
    all
}

/// Dissects frames.
pub(crate) fn dissect(frames: &[Vec<u8>]) -> Vec<Dissected> {
    dissect_by(frames, &CHECKED)
}

/// Dissects frames, with these checksums checked besides those of ICMP.
fn dissect_by(frames: &[Vec<u8>], checked: &[&str]) -> Vec<Dissected> {
    let file = std::env::temp_dir().join(format!("{}.pcap", crate::namespace::unique("capture")));
    fs::write(&file, pcap(frames)).expect("files can be written");
    let mut command = Command::new("tshark");
    command
        .arg("-n")
        .arg("-r")
        .arg(&file)
        .args(["-T", "fields", "-E", "occurrence=a", "-E", "separator=/t"]);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    for ports in DATA {
        command.args(["-d", ports]);
    }
    for preference in checked.iter().chain(&READING) {
        command.args(["-o", preference]);
    }
    let text = must(&mut command);
    fs::remove_file(&file).expect("it was written");
    let read: Vec<Dissected> = text.lines().map(read).collect();
    assert_eq!(read.len(), frames.len(), "each frame is a line");
    read
}

fn read(line: &str) -> Dissected {
    let mut fields = line.split('\t');
    let mut next = || fields.next().unwrap_or_default().to_owned();
    let (protocols, severity, words) = (next(), next(), next());
    let error = severity
        .split(',')
        .any(|level| level.parse().is_ok_and(|level: u32| level >= ERROR));
    let mut wrong = if error { words } else { String::new() };
    for name in &FIELDS[3..] {
        if next().split(',').any(|status| status == BAD) {
            wrong.push_str(name);
        }
    }
    Dissected { protocols, wrong }
}

/// Frames as a capture file, all of one time.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    let words = |file: &mut Vec<u8>, words: &[u32]| words.iter().for_each(|word| file.extend(word.to_le_bytes()));
    // Magic, version 2.4, time zone, accuracy, longest frame, Ethernet.
    words(&mut file, &[0xa1b2_c3d4, 0x0004_0002, 0, 0, 0x4_0000, 1]);
    for frame in frames {
        let length = u32::try_from(frame.len()).expect("a frame");
        words(&mut file, &[0, 0, length, length]);
        file.extend(frame);
    }
    file
}
