//! Who is asking, and the one function that decides what they may do.
//!
//! Where nobody is asked who they are, everybody is the local administrator: the doors only bind
//! loopback addresses then, unless told otherwise. Handlers take a [`Caller`] all the same, so that no
//! way in exists beside [`Caller::may`].

use std::net::SocketAddr;
use std::sync::Arc;

use crate::permissions::{Permissions, Withheld};

/// The party at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Peer address.
    pub address: SocketAddr,
    role: Role,
}

#[derive(Clone, Debug)]
enum Role {
    LocalAdministrator,
    User(Arc<User>),
}

/// Somebody who proved who they are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// Name or public key.
    pub(crate) name: String,
    /// Everything, when there are none.
    pub(crate) permissions: Option<Permissions>,
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Publish to topics; which ones, [`Action::PublishTo`] asks.
    Publish,
    /// Publish to this topic.
    PublishTo(&'a [u8]),
    /// Subscribe, fetch, unsubscribe; to what, [`Action::SubscribeTo`] asks.
    Subscribe,
    /// Subscribe to this pattern, as a member of this queue group.
    SubscribeTo(&'a [u8], Option<&'a [u8]>),
    /// Look at the roster, topics, runs.
    Look,
    /// Take part in a run.
    Bench,
    /// Remove a run.
    Remove,
    /// Check what is stored, and take it along.
    Maintain,
}

impl Caller {
    /// Whoever comes where nobody is asked.
    pub(crate) fn local_administrator(address: SocketAddr) -> Self {
        Self {
            address,
            role: Role::LocalAdministrator,
        }
    }

    /// Somebody who proved to be this user.
    pub(crate) fn user(address: SocketAddr, user: Arc<User>) -> Self {
        Self {
            address,
            role: Role::User(user),
        }
    }

    /// The one decision.
    pub fn may(&self, action: Action<'_>) -> bool {
        let Some(permissions) = self.permissions() else {
            return true;
        };
        match action {
            Action::Publish | Action::Subscribe | Action::Look => true,
            Action::PublishTo(topic) => permissions.may_publish(topic),
            Action::SubscribeTo(pattern, group) => permissions.may_subscribe(pattern, group),
            // Runs are everybody's, so they are for those whose rules name no exceptions.
            Action::Bench | Action::Remove => false,
            // A backup holds the messages of all topics.
            Action::Maintain => false,
        }
    }

    /// Nothing is refused to it.
    pub(crate) fn may_everything(&self) -> bool {
        self.permissions().is_none()
    }

    /// What it must not get of a subscription it may have.
    pub(crate) fn withheld(&self, pattern: &[u8], group: Option<&[u8]>) -> Option<Withheld> {
        self.permissions()?.withheld(pattern, group)
    }

    /// Who it is, for people.
    pub(crate) fn user_name(&self) -> Option<&str> {
        match &self.role {
            Role::LocalAdministrator => None,
            Role::User(user) => Some(&user.name),
        }
    }

    fn permissions(&self) -> Option<&Permissions> {
        match &self.role {
            Role::LocalAdministrator => None,
            Role::User(user) => user.permissions.as_ref(),
        }
    }
}
