//! What a NATS client sends: any bytes are operations or refused, and in whatever portions they arrive they
//! mean the same. Limits are small, so that they are met.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinnace_nats::{Bounds, DecodeError, Op, decode};

const BYTES_MAX: usize = 4096;

/// The operations in `bytes`, of which `portion` more arrive whenever more are needed, and how it ends.
fn read<'a>(
    bytes: &'a [u8],
    bounds: &Bounds,
    portion: usize,
) -> (Vec<Op<'a>>, Result<(), DecodeError>) {
    let (mut operations, mut at, mut arrived) = (Vec::new(), 0, 0);
    loop {
        match decode(&bytes[at..arrived], bounds) {
            Ok(Some((operation, length))) => {
                assert!(length > 0 && at + length <= arrived);
                operations.push(operation);
                at += length;
            }
            Ok(None) if arrived == bytes.len() => return (operations, Ok(())),
            Ok(None) => arrived = bytes.len().min(arrived + portion),
            Err(error) => return (operations, Err(error)),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    for headers in [false, true] {
        let bounds = Bounds {
            payload_bytes_max: 200,
            control_line_bytes_max: 100,
            headers,
        };
        let whole = read(bytes, &bounds, bytes.len().max(1));
        for portion in [1, 7] {
            assert_eq!(
                read(bytes, &bounds, portion),
                whole,
                "portions of {portion}"
            );
        }
    }
});
