//! What an operator decides about images.

use std::sync::Arc;
use std::time::Duration;

use crate::bytes::FileLimits;

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Settings(Arc<Choices>);

/// The choices of an operator; the default allows no download from elsewhere.
#[derive(Debug, Clone)]
pub struct Choices {
    pub limits: FileLimits,
    /// Where images may be imported from. Empty: `web-download` is not offered.
    pub download_from: Vec<Origin>,
    /// How long such a place may say nothing.
    pub download_silence: Duration,
}

impl Default for Choices {
    fn default() -> Self {
        Choices { limits: FileLimits::default(), download_from: Vec::new(), download_silence: Duration::from_secs(60) }
    }
}

/// A scheme, host and port, each exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub scheme: String,
    pub host: String,
    pub port: u16,
}

pub const GLANCE_DIRECT: &str = "glance-direct";
pub const WEB_DOWNLOAD: &str = "web-download";

impl Settings {
    pub fn new(choices: Choices) -> Self {
        Settings(Arc::new(choices))
    }

    /// Whether an image may come from here.
    pub fn allows(&self, url: &reqwest::Url) -> bool {
        Origin::of(url).is_some_and(|origin| self.download_from.contains(&origin))
    }

    pub fn import_methods(&self) -> Vec<&'static str> {
        let web = (!self.download_from.is_empty()).then_some(WEB_DOWNLOAD);
        std::iter::once(GLANCE_DIRECT).chain(web).collect()
    }
}

impl std::ops::Deref for Settings {
    type Target = Choices;
    fn deref(&self) -> &Choices {
        &self.0
    }
}

/// As on a command line.
impl std::str::FromStr for Origin {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
            .ok_or_else(|| "an origin is http:// or https://, a host and perhaps a port, as in https://images.example.org".into())
    }
}

impl Origin {
    /// Reads `https://images.example.org` or `http://10.0.0.1:8080`; a path is not allowed.
    pub fn parse(text: &str) -> Option<Self> {
        let url = reqwest::Url::parse(text).ok()?;
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        bare.then(|| Self::of(&url)).flatten()
    }

    /// Where a URL leads. None for other schemes than HTTP, and for URLs with a user name, which could hide the host from a reader.
    pub fn of(url: &reqwest::Url) -> Option<Self> {
        let web = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        let (host, port) = (url.host_str()?, url.port_or_known_default()?);
        web.then(|| Origin { scheme: url.scheme().into(), host: host.trim_end_matches('.').into(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |text: &str| Origin::of(&reqwest::Url::parse(text).unwrap());
        let allowed = Origin::parse("https://images.example.org").unwrap();
        assert_eq!(origin("https://IMAGES.example.org:443/a.img?x#y").as_ref(), Some(&allowed));
        for other in ["http://images.example.org/", "https://images.example.org:8443/", "https://images.example.org.evil.net/"] {
            assert_ne!(origin(other).as_ref(), Some(&allowed), "{other}");
        }
        assert_eq!(origin("https://images.example.org@evil.net/"), None);
        assert_eq!(origin("file:///etc/passwd"), None);
        assert_eq!(origin("ftp://images.example.org/"), None);
        assert_eq!(Origin::parse("https://images.example.org/only/here"), None);
        assert!("images.example.org".parse::<Origin>().is_err());
    }
}
