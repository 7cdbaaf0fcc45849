//! What is not mirrored, and why.

use rustix::io::Errno;

/// Why an entry is not mirrored.
#[derive(Clone, Debug)]
pub(super) enum Skip {
    Unreadable(Errno),
    OtherFileSystem,
    Kind,
    Long,
    Changing,
    Failed(String),
}

impl Skip {
    pub(super) fn why(&self) -> String {
        match self {
            Self::Unreadable(error) => std::io::Error::from(*error).to_string(),
            Self::OtherFileSystem => "it is on another file system".to_owned(),
            Self::Kind => "devices, sockets and FIFOs are not mirrored".to_owned(),
            Self::Long => "its path has more than 4095 bytes".to_owned(),
            Self::Changing => "it changes while it is read".to_owned(),
            Self::Failed(why) => format!("the server cannot take it: {why}"),
        }
    }
}
