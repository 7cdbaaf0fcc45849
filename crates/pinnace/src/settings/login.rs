//! Who this client says it is: a token, or a user and a password, from the environment or a file, never
//! from a flag, which everybody on the host would see.
//!
//! Invariant: secrets are in no complaint. What stands in the server's URL goes before.

use super::Layers;
use crate::failure::Result;

const TOKEN: &str = "client.token";
const USER: &str = "client.user";
const PASSWORD: &str = "client.password";

impl Layers {
    /// The server's URL, with the login that goes with it.
    pub(crate) fn server(&self) -> Result<String> {
        let url = self.text("client.server").unwrap_or_default();
        let [token, user, password] = [TOKEN, USER, PASSWORD].map(|key| self.get(key));
        // A variable of this moment goes before what a file says of every day.
        let is_token = match (&token, &user) {
            (Some((_, token)), Some((_, user))) if token.rank() == user.rank() => {
                return Err(self.wrong(TOKEN, "a token goes without a user; set one or the other"));
            }
            (Some((_, token)), Some((_, user))) => token.rank() < user.rank(),
            (token, _) => token.is_some(),
        };
        match (token, user, password) {
            (Some((token, _)), _, _) if is_token => Ok(pinnace_client::log_in(&url, &token, None)),
            (_, Some((user, _)), Some((password, _))) => {
                Ok(pinnace_client::log_in(&url, &user, Some(&password)))
            }
            (_, Some(_), None) => Err(self.wrong(
                USER,
                "a user needs a password; set PINNACE_PASSWORD or client.password",
            )),
            (_, None, Some(_)) => Err(self.wrong(
                PASSWORD,
                "a password needs a user; set PINNACE_USER or client.user",
            )),
            (_, None, None) => Ok(url),
        }
    }
}

/// A value as it may be shown to whoever looks on: without a login.
pub(crate) fn shown(key: &str, value: &str) -> String {
    if [TOKEN, PASSWORD].contains(&key) {
        return "…".to_owned();
    }
    url_shown(value)
}

/// A URL without who it says it is.
pub(crate) fn url_shown(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://…@{host}"),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::layers::tests::layers;

    #[test]
    fn a_login_is_a_token_or_a_user_and_the_nearer_one_counts() {
        for (file, environment, expected) in [
            ("", &[][..], Ok("http://h:1")),
            ("token: t0", &[], Ok("http://t0@h:1")),
            (
                "user: a, password: 'b:@/'",
                &[],
                Ok("http://a:b%3A%40%2F@h:1"),
            ),
            (
                "user: a, password: s3cret",
                &[("PINNACE_TOKEN", "t1")],
                Ok("http://t1@h:1"),
            ),
            (
                "token: t0, password: p",
                &[("PINNACE_USER", "u")],
                Ok("http://u:p@h:1"),
            ),
            ("token: t0", &[("PINNACE_TOKEN", "t1")], Ok("http://t1@h:1")),
            (
                "token: s3cret, user: a",
                &[],
                Err("client.token from p.yaml: a token goes without"),
            ),
            (
                "user: a",
                &[],
                Err("client.user from p.yaml: a user needs a password"),
            ),
            (
                "",
                &[("PINNACE_PASSWORD", "s3cret")],
                Err("client.password from PINNACE_PASSWORD: a password needs a user"),
            ),
        ] {
            let file = format!("client: {{server: 'http://h:1', {file}}}");
            let server = layers(&file, environment).server();
            match (server, expected) {
                (Ok(server), Ok(expected)) => assert_eq!(server, expected, "{file}"),
                (Err(failure), Err(expected)) => {
                    assert!(failure.message().starts_with(expected), "{failure:?}");
                    assert!(!failure.message().contains("s3cret"), "{failure:?}");
                }
                other => panic!("{file}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_stands_in_the_url_goes_before() {
        let mut layers = layers("client: {token: t0}", &[("PINNACE_TOKEN", "t1")]);
        layers.flag("client.server", Some("http://a:b@h:1"));
        assert_eq!(layers.server().unwrap(), "http://a:b@h:1");
    }

    #[test]
    fn secrets_are_not_shown() {
        for (key, value, expected) in [
            ("client.token", "t0", "…"),
            ("client.password", "p", "…"),
            ("client.user", "alice", "alice"),
            ("client.server", "http://a:b@h:1", "http://…@h:1"),
            ("client.server", "http://h:1", "http://h:1"),
        ] {
            assert_eq!(super::shown(key, value), expected);
        }
    }
}
