//! Sizes, durations and names as people write them: any text is read or refused, what is shown can be
//! read again, and a name made from any text is one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinnace_proto::{name, units};

fuzz_target!(|text: &str| {
    if let Ok(bytes) = units::parse_size(text) {
        assert_eq!(units::parse_size(&bytes.to_string()), Ok(bytes));
        units::show_size(bytes);
        units::show_rate(bytes as f64);
    }
    if let Ok(duration) = units::parse_duration(text) {
        let written = format!("{}ns", duration.as_nanos());
        assert_eq!(units::parse_duration(&written), Ok(duration));
        units::show_duration(duration);
    }
    assert!(name::check(&name::from_text(text)).is_ok(), "{text:?}");
});
