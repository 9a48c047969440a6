//! What a request asks for, as access rules of application credentials speak of it: a service, a method and a path.

use axum::extract::OriginalUri;
use http::Method;
use http::request::Parts;

/// The type of the service whose routes these are, as in the catalog. Put into requests by [`crate::Routes::of_service`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceType(pub &'static str);

#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// None where routes do not say: there no rule allows anything.
    service: Option<&'static str>,
    method: &'a Method,
    /// Without the prefix of the service.
    path: &'a str,
    /// With it.
    whole_path: &'a str,
}

impl<'a> Asked<'a> {
    pub fn of(parts: &'a Parts) -> Self {
        let path = parts.uri.path();
        Asked {
            service: parts.extensions.get::<ServiceType>().map(|service| service.0),
            method: &parts.method,
            path,
            whole_path: parts.extensions.get::<OriginalUri>().map_or(path, |uri| uri.path()),
        }
    }

    /// Whether an access rule is about this. Its path may be written with the prefix of the service or without, as `/compute/v2.1/servers`
    /// or `/v2.1/servers`: where the original answers depends on how it was deployed.
    pub fn matches(&self, service: &str, method: &str, path: &str) -> bool {
        self.service == Some(service)
            && self.method.as_str() == method
            && [self.path, self.whole_path].iter().any(|p| path_matches(path, p))
    }

    /// The validation of a token, which no rule forbids.
    pub fn is_validation(&self) -> bool {
        self.service == Some("identity") && self.method == Method::GET && self.path.ends_with("/v3/auth/tokens")
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Piece {
    Byte(u8),
    /// `*` or `{name}`: something within a segment.
    Within,
    /// `**`: anything, also nothing.
    Anything,
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let (mut pieces, mut rest) = (Vec::new(), pattern.as_bytes());
    while let [first, after @ ..] = rest {
        let (piece, taken) = match (first, after) {
            (b'*', [b'*', ..]) => (Piece::Anything, 2),
            (b'*', _) => (Piece::Within, 1),
            (b'{', _) => match after.iter().position(|byte| *byte == b'}') {
                Some(end) => (Piece::Within, end + 2),
                None => (Piece::Byte(b'{'), 1),
            },
            (byte, _) => (Piece::Byte(*byte), 1),
        };
        pieces.push(piece);
        rest = &rest[taken..];
    }
    pieces
}

/// `*` and `{name}` stand for one or more characters of a segment, `**` for any number of any. The cost is bounded by the lengths of both,
/// whatever a pattern says.
fn path_matches(pattern: &str, path: &str) -> bool {
    let pieces = pieces(pattern);
    // After each byte: which pieces may come next.
    let mut next = vec![false; pieces.len() + 1];
    next[0] = true;
    skip_nothing(&pieces, &mut next);
    for byte in path.bytes() {
        let mut then = vec![false; pieces.len() + 1];
        for (at, piece) in pieces.iter().enumerate().filter(|(at, _)| next[*at]) {
            match piece {
                Piece::Byte(wanted) => then[at + 1] |= *wanted == byte,
                Piece::Within if byte != b'/' => (then[at], then[at + 1]) = (true, true),
                Piece::Within => {}
                Piece::Anything => then[at] = true,
            }
        }
        skip_nothing(&pieces, &mut then);
        next = then;
    }
    next[pieces.len()]
}

/// Where anything may come, nothing may.
fn skip_nothing(pieces: &[Piece], next: &mut [bool]) {
    for (at, _) in pieces.iter().enumerate().filter(|(_, piece)| **piece == Piece::Anything) {
        next[at + 1] |= next[at];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_rules() {
        for (pattern, path, is) in [
            ("/v2.1/servers", "/v2.1/servers", true),
            ("/v2.1/servers", "/v2.1/servers/", false),
            ("/v2.1/servers", "/v2.1/server", false),
            ("/v2.1/servers", "/v2x1/servers", false),
            ("/v2.1/servers/*", "/v2.1/servers/x", true),
            ("/v2.1/servers/*", "/v2.1/servers/", false),
            ("/v2.1/servers/*", "/v2.1/servers/x/y", false),
            ("/v2.1/servers/a*z", "/v2.1/servers/abcz", true),
            ("/v2.1/servers/a*z", "/v2.1/servers/az", false),
            ("/v2.1/servers/{id}/action", "/v2.1/servers/x/action", true),
            ("/v2.1/servers/{id}/action", "/v2.1/servers//action", false),
            ("/v2.1/{broken", "/v2.1/{broken", true),
            ("/v2.1/**", "/v2.1/a/b/c", true),
            ("/v2.1/**", "/v2.1/", true),
            ("/v2.1/**", "/v2.1", false),
            ("/**/c", "/v2.1/a/b/c", true),
            ("/**/c", "/v2.1/a/b/d", false),
            ("**", "", true),
            ("", "/", false),
        ] {
            assert_eq!(path_matches(pattern, path), is, "{pattern} {path}");
        }
        let (pattern, path) = ("**a".repeat(40), "a".repeat(8000));
        assert!(!path_matches(&format!("{pattern}b"), &path));
    }
}
