//! Path probes: an echo in the tunnel format, on a VNI of its own. Who gets a request answers it with the same packet,
//! the two ends swapped and the kind changed; a program does that, so that no daemon needs to run there. Both ends use
//! the layouts and the arithmetic of this file.
//!
//! ```text
//!  outer IP (DF), UDP from 49152–65535 to the tunnels' port, both ways
//!  VXLAN (RFC 7348 section 5), I flag, VNI 0xfffffe
//!  Ethernet, ethertype 0x88b5 (IEEE 802: local experiments), so that what dissects VXLAN finds a frame
//!
//!   0                   1                   2                   3
//!   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!  |        magic 0x4650           |  version 1    |     kind      |
//!  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!  |                           sequence                            |
//!  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!  |                                                               |
//!  |               nonce: known to who asks and who answers        |
//!  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!  |                                                               |
//!  |     sent: nanoseconds of the asker's monotonic clock          |
//!  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!  |   zeros up to the size that is probed …
//! ```

/// The VNI of probes, one of the reserved top 4096. Not the last one: all ones mean something special to some devices.
pub const PROBE_VNI: u32 = 0xff_fffe;
/// Ethertype of the inner frame.
pub const PROBE_ETHER_TYPE: u16 = 0x88b5;
/// Both MAC addresses of the inner frame; locally administered.
pub const PROBE_MAC: [u8; 6] = [0x02, 0xfa, 0xb0, 0, 0, 0];
/// "FP".
pub const PROBE_MAGIC: u16 = 0x4650;
/// Of what follows the inner Ethernet header.
pub const PROBE_VERSION: u8 = 1;
/// To be answered.
pub const PROBE_REQUEST: u8 = 1;
/// An answer.
pub const PROBE_REPLY: u8 = 2;

/// VXLAN, Ethernet and probe header: what a UDP datagram of a request starts with, and all of the shortest one.
pub const PROBE_PAYLOAD: usize = 8 + 14 + size_of::<ProbeHeader>();

/// The probe header as it stands on the wire, in network order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ProbeHeader {
    /// [`PROBE_MAGIC`].
    pub magic: u16,
    /// [`PROBE_VERSION`].
    pub version: u8,
    /// [`PROBE_REQUEST`] or [`PROBE_REPLY`].
    pub kind: u8,
    /// Which request of the asker's to this host.
    pub sequence: u32,
    /// Proves that who answers has seen a request.
    pub nonce: u64,
    /// When the request was sent.
    pub sent: u64,
}

const _: () = assert!(size_of::<ProbeHeader>() == 24);

/// How many hosts can be probed, and how many can probe us: as many as there can be tunnels to.
pub const PROBES_MAX: u32 = 4096;

/// How many answers [`Probed`] keeps. At two requests each 300 ms that is 2.4 s of them.
pub const ECHOES: usize = 16;

/// Value of `PROBES` (key: tunnel address of a host that is probed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Probed {
    /// What answers must carry; not zero.
    pub nonce: u64,
    /// The latest answers, the one to sequence number n in the entry n % [`ECHOES`], as [`echo`] packs them. A word
    /// each, so that who reads one while it is written reads the old or the new.
    pub echoes: [u64; ECHOES],
}

#[cfg(feature = "user")]
// SAFETY: repr(C) of 64-bit integers, which leave no padding.
unsafe impl aya::Pod for Probed {}

/// An answer: its sequence number, and the nanoseconds from sending to receiving (4.29 s at most).
#[must_use]
#[inline(always)]
pub const fn echo(sequence: u32, rtt: u64) -> u64 {
    let rtt = if rtt > u32::MAX as u64 { u32::MAX as u64 } else { rtt };
    (sequence as u64) << 32 | rtt
}

/// Sequence number and nanoseconds of an [`echo`].
#[must_use]
#[inline(always)]
pub const fn echoed(echo: u64) -> (u32, u32) {
    ((echo >> 32) as u32, echo as u32)
}

/// Whether a sequence number comes after another one (RFC 1982).
#[must_use]
#[inline(always)]
pub const fn follows(sequence: u32, other: u32) -> bool {
    sequence.wrapping_sub(other) as i32 > 0
}

/// Nanoseconds between two answers to one host, in the long run: 20 a second. A host asks 7 times.
pub const ANSWER_EVERY: u64 = 50_000_000;
/// How many answers a host may get at once, if it got none before.
pub const ANSWER_BURST: u64 = 40;

/// A token bucket in one word: when it is full again. Returns what it is after an answer at `now`, `None` if it has no
/// token.
#[must_use]
#[inline(always)]
pub const fn granted(full: u64, now: u64) -> Option<u64> {
    // A word that no answer can have left must not close the bucket for ever.
    let full = if full < now || full > now + ANSWER_BURST * ANSWER_EVERY {
        now
    } else {
        full
    };
    let after = full + ANSWER_EVERY;
    if after - now > ANSWER_BURST * ANSWER_EVERY {
        return None;
    }
    Some(after)
}

/// The start of a request's datagram; zeros follow up to the probed size.
#[must_use]
pub const fn request(sequence: u32, nonce: u64, sent: u64) -> [u8; PROBE_PAYLOAD] {
    let mut payload = [0; PROBE_PAYLOAD];
    payload[0] = 0x08;
    let payload = put(payload, 4, &(PROBE_VNI << 8).to_be_bytes());
    let payload = put(payload, 8, &PROBE_MAC);
    let payload = put(payload, 14, &PROBE_MAC);
    let payload = put(payload, 20, &PROBE_ETHER_TYPE.to_be_bytes());
    let payload = put(payload, 22, &PROBE_MAGIC.to_be_bytes());
    let payload = put(payload, 24, &[PROBE_VERSION, PROBE_REQUEST]);
    let payload = put(payload, 26, &sequence.to_be_bytes());
    let payload = put(payload, 30, &nonce.to_be_bytes());
    put(payload, 38, &sent.to_be_bytes())
}

const fn put(mut payload: [u8; PROBE_PAYLOAD], at: usize, bytes: &[u8]) -> [u8; PROBE_PAYLOAD] {
    let mut next = 0;
    while next < bytes.len() {
        payload[at + next] = bytes[next];
        next += 1;
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_byte_by_byte() {
        let expected = [
            &[0x08, 0, 0, 0, 0xff, 0xff, 0xfe, 0][..],
            &[0x02, 0xfa, 0xb0, 0, 0, 0, 0x02, 0xfa, 0xb0, 0, 0, 0, 0x88, 0xb5],
            b"FP\x01\x01",
            &[1, 2, 3, 4],
            &[0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18],
            &[0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28],
        ];
        let mut given = &request(0x0102_0304, 0x1112_1314_1516_1718, 0x2122_2324_2526_2728)[..];
        for part in expected {
            let (head, rest) = given.split_at(part.len());
            assert_eq!(head, part);
            given = rest;
        }
        assert!(given.is_empty());
    }

    #[test]
    fn an_echo_keeps_number_and_time() {
        assert_eq!(echoed(echo(7, 123_456)), (7, 123_456));
        assert_eq!(echoed(echo(u32::MAX, u64::MAX)), (u32::MAX, u32::MAX));
    }

    #[test]
    fn numbers_follow_each_other_round_the_end() {
        assert!(follows(1, 0) && follows(0, u32::MAX) && follows(5, u32::MAX - 5));
        assert!(!follows(1, 1) && !follows(0, 1) && !follows(u32::MAX, 3));
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let burst = |mut full: u64, now: u64| {
            let mut answers = 0;
            while let Some(after) = granted(full, now) {
                (full, answers) = (after, answers + 1);
            }
            (full, answers)
        };
        let start = 1_000_000_000_000;
        let (full, answers) = burst(0, start);
        assert_eq!(answers, ANSWER_BURST);
        assert_eq!(granted(full, start + ANSWER_EVERY - 1), None);
        assert_eq!(burst(full, start + 3 * ANSWER_EVERY).1, 3);
        assert_eq!(burst(full, start + 3600 * ANSWER_EVERY).1, ANSWER_BURST);
        assert_eq!(burst(u64::MAX, start).1, ANSWER_BURST, "a word that makes no sense");
    }
}
