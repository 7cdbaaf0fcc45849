//! The `Date` of answers, made once a second.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

thread_local! {
    static LATEST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// Appends the date of now, as HTTP spells it.
pub(super) fn write(out: &mut Vec<u8>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_s = now.unwrap_or(Duration::ZERO).as_secs();
    LATEST.with_borrow_mut(|(latest_s, text)| {
        if *latest_s != now_s {
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now_s));
            *latest_s = now_s;
        }
        out.extend_from_slice(text.as_bytes());
    });
}
