//! Who may come in: the users of this server, and the one function that tells who somebody is.
//!
//! Invariant: what a caller gives is compared in constant time with what is known, and nothing it gives
//! is logged. Left to others: what a user may do then (`caller`, `permissions`).

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use pinnace_nats::Credentials;
use subtle::ConstantTimeEq;

use crate::caller::{Caller, User};
use crate::permissions::Permissions;
use crate::settings::{AuthSettings, Identity, PermissionSettings, Secret};

/// Signatures in CONNECT: for URLs and without padding, as the reference takes them.
const SIGNATURE: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Random bytes of a nonce; 15 letters, as the reference's.
const NONCE_BYTES: usize = 11;

/// Everybody this server knows.
#[derive(Debug, Default)]
pub(crate) struct Access {
    token: Option<(Proof, Arc<User>)>,
    by_password: Vec<(String, Proof, Arc<User>)>,
    by_key: Vec<(nkeys::KeyPair, Arc<User>)>,
    guest: Option<Arc<User>>,
}

/// Who somebody says to be does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credentials are missing or wrong")]
pub(crate) struct Unknown;

/// What a secret is compared with.
enum Proof {
    Plain(Secret),
    /// A bcrypt hash.
    Hash(String),
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl Access {
    /// Reads the settings; what is wrong with them is said in words.
    pub(crate) fn of(settings: &AuthSettings) -> Result<Self, String> {
        let usual = settings.default_permissions.as_ref();
        let mut access = Self::default();
        if let Some(token) = &settings.token {
            let user = User {
                name: "token".to_owned(),
                permissions: None,
            };
            access.token = Some((Proof::of(token)?, Arc::new(user)));
        }
        for user in &settings.users {
            let permissions = user.permissions.as_ref().or(usual);
            access.add(&user.identity, permissions)?;
        }
        if let Some(name) = &settings.no_auth_user {
            let guest = access.by_password.iter().find(|(user, ..)| user == name);
            let Some((_, _, guest)) = guest else {
                return Err(format!("no_auth_user: there is no user `{name}`"));
            };
            access.guest = Some(guest.clone());
        }
        Ok(access)
    }

    fn add(
        &mut self,
        identity: &Identity,
        permissions: Option<&PermissionSettings>,
    ) -> Result<(), String> {
        let name = match identity {
            Identity::Password { user, .. } => user,
            Identity::Nkey(key) => key,
        };
        let permissions = permissions.map(Permissions::of).transpose();
        let permissions = permissions.map_err(|error| format!("user {name}: {error}"))?;
        let known = Arc::new(User {
            name: name.clone(),
            permissions,
        });
        match identity {
            Identity::Password { user, password } => {
                if self.by_password.iter().any(|(known, ..)| known == user) {
                    return Err(format!("user {user} is listed twice"));
                }
                let proof = Proof::of(password)?;
                self.by_password.push((user.clone(), proof, known));
            }
            Identity::Nkey(key) => {
                let is_user = key.starts_with('U');
                let pair = nkeys::KeyPair::from_public_key(key)
                    .ok()
                    .filter(|_| is_user);
                let Some(pair) = pair else {
                    return Err(format!(
                        "`{key}` is no public key of a user; it begins with U and has 56 letters"
                    ));
                };
                self.by_key.push((pair, known));
            }
        }
        Ok(())
    }

    /// Nobody is asked who they are.
    pub(crate) fn is_open(&self) -> bool {
        self.token.is_none() && self.by_password.is_empty() && self.by_key.is_empty()
    }

    /// Whoever says nothing is refused.
    pub(crate) fn requires_credentials(&self) -> bool {
        !self.is_open() && self.guest.is_none()
    }

    /// Something to sign that nobody can have foreseen, if some user has to.
    pub(crate) fn nonce(&self) -> Option<String> {
        if self.by_key.is_empty() {
            return None;
        }
        let mut bytes = [0_u8; NONCE_BYTES];
        // Linux gives so few bytes whole, and never fails once it has started.
        let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Who somebody is before saying anything.
    pub(crate) fn stranger(&self, address: SocketAddr) -> Option<Caller> {
        match &self.guest {
            Some(guest) => Some(Caller::user(address, guest.clone())),
            None if self.is_open() => Some(Caller::local_administrator(address)),
            None => None,
        }
    }

    /// Who somebody is; `nonce` is what a key had to sign.
    pub(crate) fn admit(
        &self,
        address: SocketAddr,
        credentials: &Credentials,
        nonce: Option<&str>,
    ) -> Result<Caller, Unknown> {
        if self.is_open() {
            return Ok(Caller::local_administrator(address));
        }
        if *credentials == Credentials::default() {
            return self.stranger(address).ok_or(Unknown);
        }
        let user = if credentials.nkey.is_some() {
            self.key_holder(credentials, nonce)
        } else if credentials.user.is_some() {
            self.password_holder(credentials)
        } else {
            self.token_holder(credentials)
        };
        user.map(|user| Caller::user(address, user)).ok_or(Unknown)
    }

    fn key_holder(&self, credentials: &Credentials, nonce: Option<&str>) -> Option<Arc<User>> {
        let key = credentials.nkey.as_deref()?;
        let (pair, user) = self
            .by_key
            .iter()
            .find(|(pair, _)| pair.public_key() == key)?;
        let signature = SIGNATURE.decode(credentials.signature.as_deref()?).ok()?;
        pair.verify(nonce?.as_bytes(), &signature).ok()?;
        Some(user.clone())
    }

    fn password_holder(&self, credentials: &Credentials) -> Option<Arc<User>> {
        let name = credentials.user.as_deref()?;
        let password = credentials.password.as_deref().unwrap_or_default();
        let known = self.by_password.iter().find(|(user, ..)| user == name);
        let (_, proof, user) = known?;
        proof.holds(password).then(|| user.clone())
    }

    fn token_holder(&self, credentials: &Credentials) -> Option<Arc<User>> {
        let (proof, user) = self.token.as_ref()?;
        proof
            .holds(credentials.token.as_deref()?)
            .then(|| user.clone())
    }
}

impl Proof {
    fn of(secret: &Secret) -> Result<Self, String> {
        let text = &secret.0;
        if text.is_empty() {
            return Err("an empty token or password would let everybody in".to_owned());
        }
        let is_hash = ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|kind| text.starts_with(kind));
        Ok(match is_hash && text.len() == 60 {
            true => Self::Hash(text.clone()),
            false => Self::Plain(secret.clone()),
        })
    }

    fn holds(&self, given: &str) -> bool {
        match self {
            Self::Plain(secret) => secret.0.as_bytes().ct_eq(given.as_bytes()).into(),
            // A hash is slow on purpose; other connections go on meanwhile.
            Self::Hash(hash) => {
                tokio::task::block_in_place(|| bcrypt::verify(given, hash).unwrap_or(false))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Action;
    use crate::settings::UserSettings;

    const ADDRESS: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    fn password(user: &str, password: &str) -> UserSettings {
        UserSettings {
            identity: Identity::Password {
                user: user.to_owned(),
                password: Secret(password.to_owned()),
            },
            permissions: None,
        }
    }

    fn says(user: &str, password: &str) -> Credentials {
        Credentials {
            user: Some(user.to_owned()),
            password: Some(password.to_owned()),
            ..Credentials::default()
        }
    }

    #[test]
    fn nobody_is_asked_where_nothing_is_set() {
        let access = Access::of(&AuthSettings::default()).unwrap();
        assert!(access.is_open() && !access.requires_credentials());
        let caller = access.admit(ADDRESS, &says("a", "b"), None).unwrap();
        assert!(caller.may(Action::Remove) && caller.user_name().is_none());
    }

    #[test]
    fn a_name_needs_its_own_password() {
        let settings = AuthSettings {
            users: vec![password("a", "1"), password("b", "2")],
            no_auth_user: Some("b".to_owned()),
            ..AuthSettings::default()
        };
        let access = Access::of(&settings).unwrap();
        for (user, given, known) in [("a", "1", true), ("a", "2", false), ("c", "1", false)] {
            let caller = access.admit(ADDRESS, &says(user, given), None);
            assert_eq!(caller.is_ok(), known, "{user} {given}");
        }
        let guest = access.admit(ADDRESS, &Credentials::default(), None);
        assert_eq!(guest.unwrap().user_name(), Some("b"));
    }

    #[test]
    fn a_key_needs_its_signature_of_this_nonce() {
        let pair = nkeys::KeyPair::new_user();
        let settings = AuthSettings {
            users: vec![UserSettings {
                identity: Identity::Nkey(pair.public_key()),
                permissions: None,
            }],
            ..AuthSettings::default()
        };
        let access = Access::of(&settings).unwrap();
        let signed = |nonce: &str| Credentials {
            nkey: Some(pair.public_key()),
            signature: Some(SIGNATURE.encode(pair.sign(nonce.as_bytes()).unwrap())),
            ..Credentials::default()
        };
        assert!(access.admit(ADDRESS, &signed("n"), Some("n")).is_ok());
        assert!(access.admit(ADDRESS, &signed("n"), Some("m")).is_err());
        assert!(access.admit(ADDRESS, &signed("n"), None).is_err());
        assert!(access.nonce().is_some() && access.requires_credentials());
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let user = |identity| AuthSettings {
            users: vec![UserSettings {
                identity,
                permissions: None,
            }],
            ..AuthSettings::default()
        };
        for (settings, word) in [
            (user(Identity::Nkey("UABC".to_owned())), "UABC"),
            (
                AuthSettings {
                    users: vec![password("a", "1"), password("a", "2")],
                    ..AuthSettings::default()
                },
                "twice",
            ),
            (
                AuthSettings {
                    users: vec![password("a", "")],
                    ..AuthSettings::default()
                },
                "empty",
            ),
            (
                AuthSettings {
                    no_auth_user: Some("x".to_owned()),
                    ..AuthSettings::default()
                },
                "`x`",
            ),
        ] {
            let error = Access::of(&settings).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
