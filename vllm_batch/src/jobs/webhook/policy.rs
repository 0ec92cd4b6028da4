//! Where may messages go?

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use url::{Host, Url};

use super::host::is_public;
use super::{AllowedHost, WebhookConfig, WebhookSecret};
use crate::jobs::JobError;
use crate::jobs::limits::invalid;

/// Where messages may go, and by which secrets they are signed.
///
/// By default they go to `https` at port 443, and only to addresses of the public internet: whoever may create batches must
/// not be able to call what only this machine can reach.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WebhookPolicy {
    /// Whether `http` (port 80) is allowed besides `https`. Then anybody on the way can read messages.
    pub allow_http: bool,
    /// Ports that are allowed besides those of the schemes.
    pub ports: Vec<u16>,
    /// Receivers that may be at internal addresses.
    pub allow: Vec<AllowedHost>,
    /// The server's own secrets, for receivers that did not bring one. A message has a signature by each, so that one can
    /// be replaced: add the new one, change the receivers, take the old one away.
    pub secrets: Vec<WebhookSecret>,
}

/// Why no message goes to a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookUrlError {
    /// It is no URL with a host.
    #[error("it is no URL such as https://example.com/hook")]
    NotAUrl,
    /// It has a user, a password or a fragment, which messages do not carry.
    #[error("it must not have a user, a password or a fragment")]
    UnusedPart,
    /// Its scheme is not allowed.
    #[error("it must begin with https://")]
    Scheme,
    /// Its port is not allowed.
    #[error("port {port} is not allowed")]
    Port {
        /// The port.
        port: u16,
    },
    /// Its host is not one of the public internet.
    #[error("{host} is not an address of the public internet, and not one that is allowed")]
    InternalHost {
        /// The host.
        host: String,
    },
}

/// Checks where a batch's messages are to go, and that they can be signed. What a name means is looked up when they are sent.
///
/// # Errors
/// [`JobError::InvalidParameter`] for `webhook.url` or `webhook.secret`.
///
/// # Example
/// ```
/// use vllm_batch::jobs::{WebhookConfig, WebhookPolicy, validate_webhook};
///
/// let mut webhook = WebhookConfig {
///     url: "https://example.com/hook".to_owned(),
///     secret: Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
///     events: vec![],
/// };
/// assert!(validate_webhook(&webhook, &WebhookPolicy::default()).is_ok());
/// webhook.url = "https://169.254.169.254/latest/meta-data".to_owned();
/// assert_eq!(validate_webhook(&webhook, &WebhookPolicy::default()).unwrap_err().code(), "invalid_parameter");
/// ```
pub fn validate_webhook(config: &WebhookConfig, policy: &WebhookPolicy) -> Result<(), JobError> {
    policy.check_url(&config.url).map_err(|error| invalid("webhook.url", error.to_string()))?;
    match &config.secret {
        Some(secret) => {
            secret.parse::<WebhookSecret>().map(drop).map_err(|error| invalid("webhook.secret", error.to_string()))
        }
        None if policy.secrets.is_empty() => {
            Err(invalid("webhook.secret", "it must be given: the server has no secret of its own".to_owned()))
        }
        None => Ok(()),
    }
}

impl WebhookPolicy {
    /// Checks all that can be checked without looking up a name, and gives the URL in the one form that is then connected to.
    ///
    /// # Errors
    /// [`WebhookUrlError`].
    pub fn check_url(&self, text: &str) -> Result<Url, WebhookUrlError> {
        let url = Url::parse(text).map_err(|_| WebhookUrlError::NotAUrl)?;
        let host = url.host().ok_or(WebhookUrlError::NotAUrl)?;
        if !(url.scheme() == "https" || self.allow_http && url.scheme() == "http") {
            return Err(WebhookUrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(WebhookUrlError::UnusedPart);
        }
        if let Some(port) = url.port().filter(|port| !self.ports.contains(port)) {
            return Err(WebhookUrlError::Port { port });
        }
        let is_allowed = match host {
            Host::Ipv4(address) => self.allows("", address.into()),
            Host::Ipv6(address) => self.allows("", address.into()),
            Host::Domain(name) => !is_local(name) || self.allow.iter().any(|host| host.is_name(name)),
        };
        if is_allowed { Ok(url) } else { Err(WebhookUrlError::InternalHost { host: host.to_string() }) }
    }

    /// Whether a host may be called at this address.
    fn allows(&self, host: &str, address: IpAddr) -> bool {
        is_public(address) || self.allow.iter().any(|allowed| allowed.is_name(host) || allowed.has(address))
    }
}

/// Names that never leave the machine (RFC 6761).
fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

/// Looks names up, and gives only addresses that may be called: the connection goes to one of them, so that a name cannot come
/// to mean another address between the check and the call.
#[derive(Debug)]
pub(super) struct CheckedResolver<R> {
    pub(super) inner: R,
    pub(super) policy: Arc<WebhookPolicy>,
}

impl<R: Resolver> Resolver for CheckedResolver<R> {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let host = uri.host().unwrap_or_default();
        let mut allowed = self.empty();
        let is_allowed = |address: &&SocketAddr| self.policy.allows(host, address.ip());
        found.iter().filter(is_allowed).for_each(|address| allowed.push(*address));
        if allowed.is_empty() {
            let refused = WebhookUrlError::InternalHost { host: host.to_owned() };
            return Err(ureq::Error::Other(Box::new(refused)));
        }
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> WebhookPolicy {
        let allow = ["hooks.internal", "10.1.0.0/16", "localhost"].map(|host| host.parse().unwrap()).to_vec();
        WebhookPolicy { allow_http: true, ports: vec![8443], allow, secrets: Vec::new() }
    }

    #[test]
    fn urls_are_checked_in_the_form_in_which_they_are_called() {
        use WebhookUrlError::{NotAUrl, Port, Scheme, UnusedPart};
        let internal = |host: &str| WebhookUrlError::InternalHost { host: host.to_owned() };
        let strict: &[(&str, Result<&str, WebhookUrlError>)] = &[
            ("https://example.com/hook?a=1", Ok("https://example.com/hook?a=1")),
            ("HTTPS://EXAMPLE.com:443", Ok("https://example.com/")),
            ("https://8.8.8.8/", Ok("https://8.8.8.8/")),
            ("http://example.com/", Err(Scheme)),
            ("file:///etc/passwd", Err(NotAUrl)),
            ("gopher://example.com/", Err(Scheme)),
            ("example.com", Err(NotAUrl)),
            ("", Err(NotAUrl)),
            ("https://user@example.com/", Err(UnusedPart)),
            ("https://example.com/#x", Err(UnusedPart)),
            ("https://example.com:8443/", Err(Port { port: 8443 })),
            ("https://127.0.0.1/", Err(internal("127.0.0.1"))),
            ("https://127.1/", Err(internal("127.0.0.1"))),
            ("https://2130706433/", Err(internal("127.0.0.1"))),
            ("https://0x7f.0.0.1/", Err(internal("127.0.0.1"))),
            ("https://[::1]/", Err(internal("[::1]"))),
            ("https://[::ffff:169.254.169.254]/", Err(internal("[::ffff:a9fe:a9fe]"))),
            ("https://localhost/", Err(internal("localhost"))),
            ("https://a.localhost./", Err(internal("a.localhost."))),
            ("https://10.1.2.3/", Err(internal("10.1.2.3"))),
        ];
        let open: &[(&str, Result<&str, WebhookUrlError>)] = &[
            ("http://example.com/", Ok("http://example.com/")),
            ("https://example.com:8443/", Ok("https://example.com:8443/")),
            ("https://example.com:8444/", Err(Port { port: 8444 })),
            ("http://localhost/", Ok("http://localhost/")),
            ("http://10.1.2.3/", Ok("http://10.1.2.3/")),
            ("http://10.2.2.3/", Err(internal("10.2.2.3"))),
        ];
        for (policy, cases) in [(WebhookPolicy::default(), strict), (policy(), open)] {
            for (url, expected) in cases {
                let found = policy.check_url(url).map(String::from);
                assert_eq!(found, expected.clone().map(str::to_owned), "{url}");
            }
        }
    }

    #[test]
    fn a_message_must_be_signed_by_somebody() {
        let config = |secret: Option<&str>| WebhookConfig {
            url: "https://example.com".to_owned(),
            secret: secret.map(str::to_owned),
            events: vec![],
        };
        let good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let own = WebhookPolicy { secrets: vec![good.parse().unwrap()], ..WebhookPolicy::default() };
        let param = |config: &WebhookConfig, policy: &WebhookPolicy| match validate_webhook(config, policy) {
            Err(JobError::InvalidParameter { param, .. }) => Some(param),
            _ => None,
        };
        let bare = WebhookPolicy::default();
        assert_eq!(param(&config(Some(good)), &bare), None);
        assert_eq!(param(&config(None), &bare), Some("webhook.secret"));
        assert_eq!(param(&config(None), &own), None);
        assert_eq!(param(&config(Some("short")), &own), Some("webhook.secret"));
        let elsewhere = WebhookConfig { url: "http://example.com".to_owned(), ..config(Some(good)) };
        assert_eq!(param(&elsewhere, &own), Some("webhook.url"));
    }
}
