//! The protocol's limits, each with its unit; the reference server's defaults.

/// Longest arguments of one operation, without the verb and the line end, bytes.
pub const CONTROL_LINE_BYTES_MAX: usize = 4_096;

/// Blanks between a verb and its arguments that are waited through, bytes.
pub const LINE_SLACK_BYTES: usize = 1_024;

/// Digits of a size or a maximum; more are no number.
pub const SIZE_DIGITS_MAX: usize = 9;

/// Largest message accepted, headers and payload together, bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
