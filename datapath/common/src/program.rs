//! The programs and their places: ours in the program array `PROGRAMS`, functions of domains in `CHAIN`.

/// Slots of the program array `PROGRAMS` that the stubs call.
pub const SLOT_FROM_ENDPOINT: u32 = 0;
/// See [`SLOT_FROM_ENDPOINT`].
pub const SLOT_TO_ENDPOINT: u32 = 1;
/// See [`SLOT_FROM_ENDPOINT`].
pub const SLOT_FROM_UNDERLAY: u32 = 2;
/// First packets of flows of workloads.
pub const SLOT_SLOW_ENDPOINT: u32 = 3;
/// First packets of flows from the underlay.
pub const SLOT_SLOW_UNDERLAY: u32 = 4;
/// ICMP errors and the router's own answers.
pub const SLOT_ROUTER: u32 = 5;
/// Copies of group frames.
pub const SLOT_FLOOD: u32 = 6;
/// The functions of a domain, and then what has copies.
pub const SLOT_CHAIN_FLOOD: u32 = 11;
/// The functions of a domain, and what is left to do with a workload's packet.
pub const SLOT_CHAIN_ENDPOINT: u32 = 12;
/// The same for a packet from the underlay.
pub const SLOT_CHAIN_UNDERLAY: u32 = 13;
/// What the kernel's tunnel devices took out of tunnels.
pub const SLOT_FROM_DEVICE: u32 = 14;
/// First packets of flows from the kernel's tunnel devices.
pub const SLOT_SLOW_DEVICE: u32 = 15;
/// How many slots a bank has. The first bank's are those that the stubs call; all other programs of a load stand in the
/// bank that the load before did not use, so that no program ever calls one of another load.
pub const SLOTS: u32 = 16;

/// The program of each slot that is in use. In the order of filling: who is called comes first.
pub const SLOT_PROGRAMS: [(u32, &str); 12] = [
    (SLOT_ROUTER, "router"),
    (SLOT_FLOOD, "flood"),
    (SLOT_CHAIN_FLOOD, "chain_flood"),
    (SLOT_CHAIN_ENDPOINT, "chain_endpoint"),
    (SLOT_CHAIN_UNDERLAY, "chain_underlay"),
    (SLOT_SLOW_ENDPOINT, "slow_endpoint"),
    (SLOT_SLOW_UNDERLAY, "slow_underlay"),
    (SLOT_SLOW_DEVICE, "slow_device"),
    (SLOT_FROM_ENDPOINT, "from_endpoint"),
    (SLOT_TO_ENDPOINT, "to_endpoint"),
    (SLOT_FROM_UNDERLAY, "from_underlay"),
    (SLOT_FROM_DEVICE, "from_device"),
];

/// Slots of `CHAIN`.
pub const CHAIN_SLOTS: u32 = 16_384;
/// Most functions of a domain at one hook: the slots of one of its chains.
pub const CHAIN_LENGTH: u32 = 8;
/// `Function::flags`: where it fails, the packet goes on as if it had said so; else it is dropped.
pub const FUNCTION_OPEN: u32 = 1;
/// `Function::flags`: it is asked for each packet; else when a flow's way is decided.
pub const FUNCTION_PACKET: u32 = 2;
