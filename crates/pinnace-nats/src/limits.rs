//! The protocol's limits, each with its unit; the reference server's defaults.

/// Longest control line without its line end, bytes.
pub const CONTROL_LINE_BYTES_MAX: usize = 4_096;

/// Largest message accepted, headers and payload together, bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
