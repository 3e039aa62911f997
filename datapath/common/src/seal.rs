//! How much the seal of a decision is about ([`Flow::seal`]).

use core::mem::offset_of;

use crate::{Flow, FlowKey};

/// Words of eight bytes of a `Flow`'s key with its interface, and of what it says.
pub const FLOW_NAME: usize = (size_of::<FlowKey>() + size_of::<u32>()) / size_of::<u64>();
/// See `FLOW_NAME`.
pub const FLOW_SAID: usize = offset_of!(Flow, told) / size_of::<u64>();
/// The value of `SECRETS`: a factor for each of them.
pub type Factors = [u64; FLOW_NAME + FLOW_SAID];
