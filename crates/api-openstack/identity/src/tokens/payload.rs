//! What a token says, in as few bytes as possible: the text must stay within 255 characters for every form.
//!
//! ```text
//! methods:1 issued:8 expires:8 audit:16 flags:1 [parent audit:16] user:id [scope id] [application credential:id]
//! ```
//! An id of 32 hex digits takes 17 bytes; any other id is written as text after its length.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use unkai_model::identity::{AppCredential, Project, Scope, User};
use unkai_model::{Error, Id};

/// A way of proving who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    Password,
    Token,
    ApplicationCredential,
}

impl Method {
    pub const ALL: [Method; 3] = [Method::Password, Method::Token, Method::ApplicationCredential];

    pub fn as_str(self) -> &'static str {
        match self {
            Method::Password => "password",
            Method::Token => "token",
            Method::ApplicationCredential => "application_credential",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == text)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

pub type AuditId = [u8; 16];

#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub methods: BTreeSet<Method>,
    pub issued: Timestamp,
    pub expires: Timestamp,
    pub audit: AuditId,
    /// The first token of the chain that this one came from.
    pub parent: Option<AuditId>,
    pub user: Id<User>,
    /// None: unscoped.
    pub scope: Option<Scope>,
    pub app_credential: Option<Id<AppCredential>>,
}

const PARENT: u8 = 1;
const APP_CREDENTIAL: u8 = 2;
const SCOPE_SHIFT: u8 = 2;
/// The length that means: sixteen packed bytes follow.
const PACKED: u8 = 255;

pub fn audit_text(audit: &AuditId) -> String {
    URL_SAFE_NO_PAD.encode(audit)
}

impl Token {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.push(self.methods.iter().fold(0, |bits, method| bits | method.bit()));
        out.extend(self.issued.as_microsecond().to_be_bytes());
        out.extend(self.expires.as_microsecond().to_be_bytes());
        out.extend(self.audit);
        let scope = match self.scope {
            None => 0,
            Some(Scope::Project(_)) => 1,
            Some(Scope::Domain(_)) => 2,
            Some(Scope::System) => 3,
        };
        let flags = if self.parent.is_some() { PARENT } else { 0 } | if self.app_credential.is_some() { APP_CREDENTIAL } else { 0 };
        out.push(flags | scope << SCOPE_SHIFT);
        out.extend(self.parent.iter().flatten());
        put_id(&mut out, self.user.as_str());
        if let Some(Scope::Project(id) | Scope::Domain(id)) = &self.scope {
            put_id(&mut out, id.as_str());
        }
        if let Some(id) = &self.app_credential {
            put_id(&mut out, id.as_str());
        }
        out
    }

    /// The payload was sealed by us, so a fault here is a format of another version; it must not panic all the same.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Reader(bytes).token().ok_or_else(|| Error::denied("The token has an unknown format."))
    }
}

fn put_id(out: &mut Vec<u8>, id: &str) {
    let mut packed = [0; 16];
    let is_lower = !id.bytes().any(|b| b.is_ascii_uppercase());
    if is_lower && hex::decode_to_slice(id, &mut packed).is_ok() {
        out.push(PACKED);
        out.extend(packed);
    } else {
        let text = &id.as_bytes()[..id.len().min(usize::from(PACKED) - 1)];
        out.push(text.len() as u8);
        out.extend(text);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, many: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(many)?;
        self.0 = rest;
        Some(taken)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
    fn time(&mut self) -> Option<Timestamp> {
        Timestamp::from_microsecond(i64::from_be_bytes(self.array()?)).ok()
    }
    fn id(&mut self) -> Option<String> {
        match self.array::<1>()?[0] {
            PACKED => Some(hex::encode(self.array::<16>()?)),
            length => String::from_utf8(self.take(usize::from(length))?.to_vec()).ok(),
        }
    }
    fn token(mut self) -> Option<Token> {
        let methods = self.array::<1>()?[0];
        let methods = Method::ALL.into_iter().filter(|method| methods & method.bit() != 0).collect();
        let (issued, expires, audit) = (self.time()?, self.time()?, self.array()?);
        let flags = self.array::<1>()?[0];
        let parent = if flags & PARENT != 0 { Some(self.array()?) } else { None };
        let user = self.id()?.into();
        let scope = match flags >> SCOPE_SHIFT {
            0 => None,
            1 => Some(Scope::Project(Id::<Project>::from(self.id()?))),
            2 => Some(Scope::Domain(Id::<Project>::from(self.id()?))),
            3 => Some(Scope::System),
            _ => return None,
        };
        let app_credential = if flags & APP_CREDENTIAL != 0 { Some(self.id()?.into()) } else { None };
        self.0.is_empty().then_some(Token { methods, issued, expires, audit, parent, user, scope, app_credential })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn widest() -> Token {
        let id = "0123456789abcdef0123456789abcdef";
        Token {
            methods: Method::ALL.into(),
            issued: "2026-01-01T00:00:00.123456Z".parse().unwrap(),
            expires: "2026-01-01T01:00:00.123456Z".parse().unwrap(),
            audit: [7; 16],
            parent: Some([9; 16]),
            user: id.into(),
            scope: Some(Scope::Project(id.into())),
            app_credential: Some(id.into()),
        }
    }

    #[test]
    fn every_form_survives() {
        let ids = ["default", "0123456789abcdef0123456789abcdef", "0123456789ABCDEF0123456789ABCDEF", "é", ""];
        for id in ids {
            for scope in [None, Some(Scope::Project(id.into())), Some(Scope::Domain(id.into())), Some(Scope::System)] {
                for (parent, app_credential) in [(None, None), (Some([1; 16]), None), (None, Some(id.into()))] {
                    let token = Token { user: id.into(), scope: scope.clone(), parent, app_credential, ..widest() };
                    assert_eq!(Token::decode(&token.encode()).unwrap(), token);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Token::decode(&bytes);
        }
    }
}
