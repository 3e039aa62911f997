//! What peers say to each other about their replicas.

/// Largest frame, in bytes.
pub const FRAME_MAX: usize = 1024 * 1024;
