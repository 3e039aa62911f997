//! How much of a thing an endpoint may cause: token buckets.

use datapath_common::{Bucket, LimitKey};

use crate::maps::LIMITS;

/// Tokens of a second, and of a full bucket.
const RATE: u64 = 100;
const BURST: u64 = 100 * TOKEN;
/// A token, in thousandths.
const TOKEN: u64 = 1000;
/// Nanoseconds in which a thousandth of a token comes back.
const FILL: u64 = 1_000_000_000 / RATE / TOKEN;

/// Takes a token. CPUs that take at once may give out a few more.
#[inline(always)]
pub fn take(endpoint: u32, kind: u32, now: u64) -> bool {
    let key = LimitKey { endpoint, kind };
    let Some(bucket) = LIMITS.get_ptr_mut(key) else {
        let bucket = Bucket {
            tokens: BURST - TOKEN,
            filled: now,
        };
        return LIMITS.insert(key, bucket, 0).is_ok();
    };
    // SAFETY: a value may change while it is read or written; each field is valid by itself.
    let bucket = unsafe { &mut *bucket };
    let since = now.saturating_sub(bucket.filled);
    let tokens = bucket.tokens.saturating_add(since / FILL).min(BURST);
    if tokens < TOKEN {
        return false;
    }
    bucket.filled = now;
    bucket.tokens = tokens - TOKEN;
    true
}
