//! The states of a connection and how long it lives in each, without a packet of it.
//!
//! ```text
//!  TCP   SYN or picked up        SYN|ACK back      ACK                  FIN          FIN back, or RST from any state
//!        ─────────► Opening ────────► Opened ────────► Established ────► Closing… ────► Closed
//!                      └── anything else back ────────────►┘
//!  UDP and all others ─► OneWay ── anything back ─► TwoWay          ICMP echo ─► Echo
//! ```

/// TCP's flags as they stand in its header.
pub const FIN: u32 = 0x01;
/// See [`FIN`].
pub const SYN: u32 = 0x02;
/// See [`FIN`].
pub const RST: u32 = 0x04;
/// See [`FIN`].
pub const ACK: u32 = 0x10;
/// The flags that say what a segment is for.
pub const FLAGS: u32 = FIN | SYN | RST | ACK;

/// Protocol numbers with states of their own.
const ICMP: u32 = 1;
const TCP: u32 = 6;
const ICMP6: u32 = 58;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum State {
    /// TCP: the initiator was heard.
    Opening = 1,
    /// TCP: the responder said SYN|ACK.
    Opened = 2,
    /// TCP: both were heard, and the initiator again.
    Established = 3,
    /// TCP: the initiator said FIN.
    ClosingByInitiator = 4,
    /// TCP: the responder said FIN.
    ClosingByResponder = 5,
    /// TCP: both said FIN, or one RST.
    Closed = 6,
    /// Without a handshake: the initiator was heard.
    OneWay = 7,
    /// Without a handshake: both were heard.
    TwoWay = 8,
    /// ICMP echo.
    Echo = 9,
}

impl State {
    /// The state with this number.
    #[must_use]
    #[inline(always)]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Opening,
            2 => Self::Opened,
            3 => Self::Established,
            4 => Self::ClosingByInitiator,
            5 => Self::ClosingByResponder,
            6 => Self::Closed,
            7 => Self::OneWay,
            8 => Self::TwoWay,
            9 => Self::Echo,
            _ => return None,
        })
    }

    /// Of a connection whose first packet is of this protocol. What is picked up in the middle is no further than a SYN.
    #[must_use]
    #[inline(always)]
    pub const fn first(protocol: u32) -> Self {
        match protocol {
            TCP => Self::Opening,
            ICMP | ICMP6 => Self::Echo,
            _ => Self::OneWay,
        }
    }

    /// After a packet with these TCP flags (0 for other protocols), of the responder if `reply`.
    #[must_use]
    #[inline(always)]
    pub const fn step(self, flags: u32, reply: bool) -> Self {
        match self {
            Self::Echo => Self::Echo,
            Self::TwoWay => Self::TwoWay,
            Self::OneWay if reply => Self::TwoWay,
            Self::OneWay => Self::OneWay,
            _ if flags & RST != 0 => Self::Closed,
            _ if flags & FIN != 0 => self.finish(reply),
            _ if flags & (SYN | ACK) == SYN => self.restart(reply),
            Self::Opening if reply && flags & SYN != 0 => Self::Opened,
            Self::Opening if reply && flags & ACK != 0 => Self::Established,
            Self::Opened if !reply && flags & (SYN | ACK) == ACK => Self::Established,
            _ => self,
        }
    }

    /// After a FIN. Alone, the initiator gets no further than its SYN did.
    #[inline(always)]
    const fn finish(self, reply: bool) -> Self {
        match (self, reply) {
            (Self::Opening, false) => Self::Opening,
            (Self::ClosingByInitiator, true) | (Self::ClosingByResponder, false) | (Self::Closed, _) => Self::Closed,
            (_, true) => Self::ClosingByResponder,
            (_, false) => Self::ClosingByInitiator,
        }
    }

    /// After a SYN without ACK.
    #[inline(always)]
    const fn restart(self, reply: bool) -> Self {
        match (self, reply) {
            (Self::ClosingByInitiator | Self::ClosingByResponder | Self::Closed, false) | (Self::Closed, true) => {
                Self::Opening
            }
            (Self::Opening, true) => Self::Opened,
            _ => self,
        }
    }

    /// Seconds without a packet after which it is gone (RFC 5382 REQ-5, RFC 4787 REQ-5, RFC 5508 REQ-2).
    #[must_use]
    #[inline(always)]
    pub const fn timeout(self) -> u32 {
        match self {
            Self::Opening | Self::Opened | Self::Echo => 60,
            Self::Established => 7440,
            Self::ClosingByInitiator | Self::ClosingByResponder => 240,
            Self::Closed => 10,
            Self::OneWay => 120,
            Self::TwoWay => 300,
        }
    }

    /// Whether plain packets that follow, of the responder if `reply`, mean no more than that it lives, whatever the other
    /// end sends meanwhile: of one where only the initiator was heard a plain ACK may come to mean more, and of one that
    /// is over there is hardly more to come.
    #[must_use]
    #[inline(always)]
    pub const fn settled(self, reply: bool) -> bool {
        !matches!(self, Self::Opening | Self::Closed) && self.step(ACK, reply) as u32 == self as u32
    }

    /// Whether both ends took part, so that nobody can fill the map of such connections alone.
    #[must_use]
    #[inline(always)]
    pub const fn permanent(self) -> bool {
        matches!(
            self,
            Self::Established | Self::ClosingByInitiator | Self::ClosingByResponder | Self::TwoWay
        )
    }

    /// Whether a connection in this state that was `seen` last is still there at `now` (seconds; both may be a little
    /// ahead of the other, on another CPU).
    #[must_use]
    #[inline(always)]
    pub const fn live(self, seen: u32, now: u32) -> bool {
        elapsed(seen, now) < self.timeout()
    }
}

/// Whether a TCP stack sends these flags together.
#[must_use]
#[inline(always)]
pub const fn sane(flags: u32) -> bool {
    let flags = flags & FLAGS;
    flags == ACK || flags == SYN || flags == SYN | ACK || flags == FIN | ACK || flags == RST || flags == RST | ACK
}

/// Seconds from `then` to `now` on a clock that wraps (serial numbers as RFC 1982); none where another CPU's clock was
/// ahead.
#[must_use]
#[inline(always)]
pub const fn elapsed(then: u32, now: u32) -> u32 {
    let seconds = now.wrapping_sub(then);
    if seconds > u32::MAX / 2 { 0 } else { seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [State; 9] = [
        State::Opening,
        State::Opened,
        State::Established,
        State::ClosingByInitiator,
        State::ClosingByResponder,
        State::Closed,
        State::OneWay,
        State::TwoWay,
        State::Echo,
    ];

    #[track_caller]
    fn walk(protocol: u32, packets: &[(u32, bool, State)]) {
        let mut state = State::first(protocol);
        for (number, (flags, reply, expected)) in packets.iter().enumerate() {
            state = state.step(*flags, *reply);
            assert_eq!(state, *expected, "after packet {number}: {packets:?}");
        }
    }

    #[test]
    fn numbers_survive_the_way_through_a_map() {
        for state in ALL {
            assert_eq!(State::from_number(state as u32), Some(state));
        }
        assert_eq!((State::from_number(0), State::from_number(10)), (None, None));
    }

    #[test]
    fn a_handshake_data_and_an_orderly_end() {
        walk(
            6,
            &[
                (SYN, false, State::Opening),
                (SYN, false, State::Opening),
                (SYN | ACK, true, State::Opened),
                (SYN | ACK, true, State::Opened),
                (ACK, false, State::Established),
                (ACK, true, State::Established),
                (FIN | ACK, true, State::ClosingByResponder),
                (FIN | ACK, true, State::ClosingByResponder),
                (ACK, false, State::ClosingByResponder),
                (FIN | ACK, false, State::Closed),
                (ACK, true, State::Closed),
                (SYN, false, State::Opening),
            ],
        );
    }

    #[test]
    fn the_initiator_alone_gets_nowhere() {
        walk(
            6,
            &[
                (ACK, false, State::Opening),
                (FIN | ACK, false, State::Opening),
                (SYN | ACK, false, State::Opening),
                (SYN, false, State::Opening),
            ],
        );
        walk(17, &[(0, false, State::OneWay), (0, false, State::OneWay)]);
    }

    #[test]
    fn picked_up_in_the_middle() {
        walk(6, &[(ACK, false, State::Opening), (ACK, true, State::Established)]);
        walk(
            6,
            &[
                (SYN, false, State::Opening),
                (SYN, true, State::Opened),
                (ACK, false, State::Established),
            ],
        );
    }

    #[test]
    fn a_reset_ends_it_and_a_syn_starts_anew() {
        for state in ALL.into_iter().filter(|state| *state < State::OneWay) {
            for reply in [false, true] {
                assert_eq!(state.step(RST, reply), State::Closed, "{state:?}");
            }
        }
        assert_eq!(State::Closed.step(SYN, true), State::Opening, "the responder may, too");
        assert_eq!(State::ClosingByResponder.step(SYN, true), State::ClosingByResponder);
        assert_eq!(State::ClosingByInitiator.step(SYN, false), State::Opening);
        assert_eq!(
            State::Established.step(SYN, false),
            State::Established,
            "a stale or forged SYN"
        );
    }

    #[test]
    fn without_a_handshake() {
        walk(
            17,
            &[
                (0, false, State::OneWay),
                (0, true, State::TwoWay),
                (0, false, State::TwoWay),
            ],
        );
        walk(1, &[(0, false, State::Echo), (0, true, State::Echo)]);
        walk(58, &[(0, true, State::Echo)]);
    }

    #[test]
    fn only_what_both_ends_made_is_permanent() {
        for state in ALL {
            let alone = [State::first(6), State::first(17), State::first(1)]
                .into_iter()
                .flat_map(|first| [ACK, SYN, FIN | ACK, RST, SYN | ACK, 0].map(|flags| first.step(flags, false)))
                .any(|reached| reached == state);
            assert!(!(alone && state.permanent()), "{state:?} is reached by one end alone");
        }
    }

    /// Until it opens anew, which ends what is remembered of it.
    #[test]
    fn nothing_the_other_end_sends_gives_a_meaning_to_plain_packets_of_a_settled_one() {
        for (state, reply) in ALL.into_iter().flat_map(|state| [(state, false), (state, true)]) {
            let mut reached = ALL.map(|one| one == state && state.settled(reply));
            for _ in ALL {
                let before = reached;
                for at in ALL.into_iter().filter(|at| before[*at as usize - 1]) {
                    assert_eq!(at.step(ACK, reply), at, "{state:?}, reply: {reply}, by way of {at:?}");
                    for to in (0..=FLAGS).map(|flags| at.step(flags, !reply)) {
                        reached[to as usize - 1] |= to != State::Opening;
                    }
                }
            }
        }
        assert!(State::Opened.settled(true) && !State::Opened.settled(false));
        assert!(!State::Opening.settled(true) && !State::Closed.settled(false));
    }

    #[test]
    fn it_lives_as_long_as_it_says() {
        for state in ALL {
            assert!(state.live(100, 100 + state.timeout() - 1), "{state:?}");
            assert!(!state.live(100, 100 + state.timeout()), "{state:?}");
            assert!(state.live(100, 99), "{state:?}: another CPU was a tick ahead");
        }
    }

    #[test]
    fn sane_flags() {
        const PSH_URG_ECE_CWR: u32 = 0xe8;
        let sane_ones = [SYN, SYN | ACK, ACK, ACK | FIN, RST, RST | ACK];
        for flags in 0..0x100 {
            let expected = sane_ones.contains(&(flags & !PSH_URG_ECE_CWR));
            assert_eq!(sane(flags), expected, "{flags:#04x}");
        }
    }

    #[test]
    fn time_goes_on_where_the_clock_wraps() {
        assert_eq!(elapsed(5, 12), 7);
        assert_eq!(elapsed(u32::MAX - 4, 5), 10);
        assert_eq!(elapsed(12, 11), 0, "another clock was ahead");
    }
}
