//! Who is asking, and the one function that decides what they may do.
//!
//! Until connections are authenticated, everybody is the local administrator: the doors only bind
//! loopback addresses unless told otherwise. Handlers take a [`Caller`] all the same, so that no
//! way in exists beside [`Caller::may`].

use std::net::SocketAddr;

/// The party at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Peer address.
    pub address: SocketAddr,
    role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    LocalAdministrator,
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish to topics.
    Publish,
    /// Subscribe, fetch, unsubscribe.
    Subscribe,
    /// Look at the roster, topics, runs.
    Look,
    /// Take part in a run.
    Bench,
    /// Remove a run.
    Remove,
}

impl Caller {
    /// The caller behind a new connection.
    pub fn admit(address: SocketAddr) -> Self {
        Self {
            address,
            role: Role::LocalAdministrator,
        }
    }

    /// The one decision.
    pub fn may(&self, _action: Action) -> bool {
        match self.role {
            Role::LocalAdministrator => true,
        }
    }
}
