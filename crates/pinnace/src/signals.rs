//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once. SIGHUP: logs were
//! moved away.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `asked` at the first signal, from a thread of its own. A second signal ends the process
/// with the exit code shells use for it.
pub(crate) fn on_stop(asked: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new()
        .name("pn-signals".into())
        .spawn(move || {
            let mut asked = Some(asked);
            for signal in signals.forever() {
                match asked.take() {
                    Some(asked) => asked(),
                    None => {
                        let _ = signal_hook::low_level::emulate_default_handler(signal);
                    }
                }
            }
        })?;
    Ok(())
}

/// Calls `moved` at each SIGHUP, from a thread of its own.
pub(crate) fn on_hangup(moved: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP])?;
    std::thread::Builder::new()
        .name("pn-hangup".into())
        .spawn(move || {
            for _ in signals.forever() {
                moved();
            }
        })?;
    Ok(())
}
