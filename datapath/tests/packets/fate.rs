//! What becomes of a packet, and tables of packets with what is to become of them.

use std::collections::BTreeMap;

use datapath_common::Reason;

use crate::bench::{Bench, Context, knows_decap_l3};
use crate::book;
use crate::frames::icmp_error;

/// A program's return values.
pub(crate) const PASSED: u32 = u32::MAX;
pub(crate) const DROPPED: u32 = 2;
pub(crate) const REDIRECTED: u32 = 7;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Goes on unchanged.
    Passed,
    /// Dropped and counted for this domain and endpoint.
    Dropped(Reason, u32, u32),
    /// As dropped, and this frame goes back to the workload.
    Answered(Reason, Vec<u8>),
    /// Goes elsewhere as this frame, with this mark.
    Redirected(Vec<u8>, u32),
}

/// Packets and bytes by domain, endpoint and number of the reason.
pub(crate) type Drops = BTreeMap<(u32, u32, u32), (u64, u64)>;

impl Bench {
    /// Runs a program on a frame and says what became of it, having compared all counters with what that must do to them.
    pub(crate) fn fate(&self, program: &str, what: &str, frame: &[u8], context: Context) -> Fate {
        let before = self.drops();
        self.forget_trace();
        let (verdict, out, mark) = self
            .run(program, frame, context)
            .unwrap_or_else(|error| panic!("{what}: not run: {error}"));
        let after = self.drops();
        let changed: Drops = after
            .iter()
            .filter(|(key, count)| before.get(*key) != Some(*count))
            .map(|(k, v)| (*k, *v))
            .collect();
        let fate = match verdict {
            PASSED => {
                assert_eq!(out, frame, "{what}: passed, so unchanged");
                Fate::Passed
            }
            REDIRECTED if changed.is_empty() => Fate::Redirected(out, mark),
            REDIRECTED | DROPPED => {
                assert_eq!(changed.len(), 1, "{what}: a drop counts once: {changed:?}");
                let (key, after) = changed.iter().next().expect("one");
                let before = before.get(key).copied().unwrap_or_default();
                let length = u64::try_from(frame.len()).expect("fits");
                assert_eq!(*after, (before.0 + 1, before.1 + length), "{what}: packets and bytes");
                let reason = Reason::from_number(key.2).unwrap_or_else(|| panic!("{what}: reason {}", key.2));
                let trace = self.trace();
                assert_eq!(
                    (trace.verdict, trace.reason, trace.domain, trace.endpoint),
                    (verdict, key.2, key.0, key.1),
                    "{what}: the trace"
                );
                if verdict == REDIRECTED {
                    assert_eq!(mark, book::MARK, "{what}: an answer goes by the host side");
                    return Fate::Answered(reason, out);
                }
                return Fate::Dropped(reason, key.0, key.1);
            }
            other => panic!("{what}: verdict {other}"),
        };
        assert_eq!(
            changed,
            Drops::new(),
            "{what}: nothing was dropped, so nothing is counted"
        );
        fate
    }

    /// Runs a table of packets through a program, each twice: what was remembered of the first is not to make a
    /// difference to the second. Of a bench with devices, then once more by each of those.
    pub(crate) fn table(&self, program: &str, rows: Vec<(&str, Vec<u8>, Fate)>) {
        for (what, frame, expected) in rows {
            assert_eq!(self.fate(program, what, &frame, Context::default()), expected, "{what}");
            let again = self.fate(program, what, &frame, Context::default());
            assert_eq!(again, expected, "{what}, again");
            self.by_devices(program, what, &frame, &expected);
        }
    }

    /// Runs a table of packets through a program: each is decided by the slow path, and by the fast path the second time.
    pub(crate) fn remembered(&self, program: &str, rows: Vec<(&str, Vec<u8>, Fate)>) {
        for (what, frame, expected) in rows {
            for fast in [0, 1] {
                assert_eq!(self.fate(program, what, &frame, Context::default()), expected, "{what}");
                assert_eq!(self.trace().fast, fast, "{what}: {:?}", self.trace());
            }
        }
    }
}

/// What becomes of a frame for a namespace whose family is not the tunnel's: a kernel that cannot be told the family takes
/// it by the host side.
pub(crate) fn other_family(frame: &[u8]) -> Fate {
    if knows_decap_l3() {
        to_namespace(frame)
    } else {
        to_host_side(frame)
    }
}

/// Dropped for red's workload at the interface.
pub(crate) fn dropped(reason: Reason) -> Fate {
    Fate::Dropped(reason, book::RED_DOMAIN, book::WEB.endpoint)
}

/// Into a namespace by `bpf_redirect_peer`, which needs no mark.
pub(crate) fn to_namespace(frame: &[u8]) -> Fate {
    Fate::Redirected(frame.to_vec(), 0)
}

/// Out of a host side, where `to_endpoint` asks for the mark.
pub(crate) fn to_host_side(frame: &[u8]) -> Fate {
    Fate::Redirected(frame.to_vec(), book::MARK)
}

/// Too large: the destination tells the workload that sent it what fits.
pub(crate) fn too_big(frame: &[u8], mtu: u32) -> Fate {
    let says = if frame[12..14] == [0x08, 0] { (3, 4) } else { (2, 0) };
    Fate::Answered(Reason::Mtu, icmp_error(frame, None, says, mtu))
}
