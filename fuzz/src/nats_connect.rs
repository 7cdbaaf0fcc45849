//! The document of CONNECT: any bytes are read or refused, and read twice they mean the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinnace_nats::Connect;

fuzz_target!(|json: &[u8]| {
    let mut once = Connect::default();
    let accepted = once.update(json).is_ok();
    let before = once.clone();
    assert_eq!(once.update(json).is_ok(), accepted);
    assert_eq!(once, before);
});
