//! What is asked about shares, as typed calls.
//!
//! Invariant: each call is one request to the HTTP door. Left to others: mirroring itself ([`crate::MirrorServer`]).

use std::io::Read;

use pinnace_proto::sync::{ShareInfo, Shares, Trash, Verdict, Waited};

use crate::api::segment;
use crate::{Api, ApiError};

impl Api {
    /// All shares of the server.
    pub fn shares(&self) -> Result<Shares, ApiError> {
        self.get("/-/shares")
    }

    /// One share.
    pub fn share(&self, share: &str) -> Result<ShareInfo, ApiError> {
        self.get(&format!("/-/shares/{share}"))
    }

    /// What is in a share's trash.
    pub fn share_trash(&self, share: &str) -> Result<Trash, ApiError> {
        self.get(&format!("/-/shares/{share}/trash"))
    }

    /// Something in a share's trash, or what is at a path inside it, as a tar.
    pub fn share_thing(
        &self,
        share: &str,
        id: u64,
        inside: &str,
    ) -> Result<impl Read + use<>, ApiError> {
        let inside = match inside {
            "" => String::new(),
            inside => format!("?path={}", segment(inside)),
        };
        self.get_patiently(&format!("/-/shares/{share}/trash/{id}{inside}"))
    }

    /// Waits, as long as it takes, until everything that happened in a share's source is durable in it.
    pub fn share_wait(&self, share: &str) -> Result<Waited, ApiError> {
        self.post_patiently(&format!("/-/shares/{share}/wait"))
    }

    /// Compares a share with its source; `deep` reads all files again.
    pub fn share_verify(&self, share: &str, deep: bool) -> Result<Verdict, ApiError> {
        let deep = if deep { "?deep" } else { "" };
        self.post_patiently(&format!("/-/shares/{share}/verify{deep}"))
    }
}
