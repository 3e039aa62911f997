//! How much of a thing an endpoint may cause: token buckets.

use datapath_common::{
    Bucket, LIMIT_BROADCAST, LIMIT_CONNECTIONS, LIMIT_FLOWS, LIMIT_FRAGMENTS, LIMIT_PUNT, LIMIT_RELATED, LIMIT_SLOW,
    LimitKey, RATE_BROADCAST, RATE_CONNECTIONS, RATE_FLOWS, RATE_FRAGMENTS, RATE_ICMP, RATE_PUNT, RATE_RELATED,
    RATE_SLOW, Rate,
};

use crate::maps::LIMITS;

/// A token, in thousandths.
const TOKEN: u64 = 1000;

/// Takes a token of a `LIMIT_*`. CPUs that take at once may give out a few more.
#[inline(always)]
pub fn take(endpoint: u32, kind: u32, now: u64) -> bool {
    take_many(endpoint, kind, 1, now)
}

/// Takes so many tokens, or none.
#[inline(never)]
pub fn take_many(endpoint: u32, kind: u32, count: u32, now: u64) -> bool {
    let (fill, burst) = rate(kind);
    let cost = u64::from(count) * TOKEN;
    let key = LimitKey { endpoint, kind };
    let Some(bucket) = LIMITS.get_ptr_mut(key) else {
        if burst < cost {
            return false;
        }
        let bucket = Bucket {
            tokens: burst - cost,
            filled: now,
        };
        // Where it fails, nothing is limited: there is no memory to say so.
        let _ = LIMITS.insert(key, bucket, 0);
        return true;
    };
    // SAFETY: a value may change while it is read or written, or be another's bucket by now, which then is this full; each
    // field is valid by itself.
    let bucket = unsafe { &mut *bucket };
    let tokens = held(bucket, fill, burst, now);
    if tokens < cost {
        return false;
    }
    bucket.filled = now;
    bucket.tokens = tokens - cost;
    true
}

/// What is in a bucket by now.
#[inline(always)]
fn held(bucket: &Bucket, fill: u64, burst: u64, now: u64) -> u64 {
    let since = now.saturating_sub(bucket.filled);
    bucket.tokens.saturating_add(since / fill).min(burst)
}

/// Of a `LIMIT_*`, as [`bucket`] has it.
#[inline(always)]
fn rate(kind: u32) -> (u64, u64) {
    match kind {
        LIMIT_BROADCAST => bucket(RATE_BROADCAST),
        LIMIT_SLOW => bucket(RATE_SLOW),
        LIMIT_PUNT => bucket(RATE_PUNT),
        LIMIT_CONNECTIONS => bucket(RATE_CONNECTIONS),
        LIMIT_RELATED => bucket(RATE_RELATED),
        LIMIT_FRAGMENTS => bucket(RATE_FRAGMENTS),
        LIMIT_FLOWS => bucket(RATE_FLOWS),
        _ => bucket(RATE_ICMP),
    }
}

/// Nanoseconds in which a thousandth of a token comes back, and a full bucket.
const fn bucket(rate: Rate) -> (u64, u64) {
    (1_000_000_000 / rate.second / TOKEN, rate.burst * TOKEN)
}
