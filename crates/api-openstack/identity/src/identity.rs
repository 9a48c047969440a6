//! The service itself: turns tokens into sessions and makes new ones.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use unkai_model::Error;
use unkai_model::identity::KeyPurpose;
use unkai_openstack::{Asked, Authenticate, CallerName};
use unkai_store::{Store, View};

use crate::passwords::{Cost, Passwords};
use crate::tokens::keys::{self, Ciphers};
use crate::tokens::memory::Memory;
use crate::tokens::payload::Token;
use crate::tokens::session::{self, Session};

/// Longer than the longest token we make.
const LONGEST_TOKEN: usize = 255;

#[derive(Debug, Clone)]
pub struct Settings {
    pub token_life: SignedDuration,
    /// How long after its expiry a service may still ask about a token, to finish long operations.
    pub expired_window: SignedDuration,
    pub hash_cost: Cost,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { token_life: SignedDuration::from_hours(1), expired_window: SignedDuration::from_hours(48), hash_cost: Cost::default() }
    }
}

/// Judges tokens. Holds nothing that could not be computed again from the store.
pub struct Identity {
    pub(crate) settings: Settings,
    pub(crate) passwords: Passwords,
    pub(crate) ciphers: Ciphers,
    memory: Memory,
    store: Store,
}

impl Identity {
    pub fn new(store: &Store) -> Self {
        Self::with(store, Settings::default())
    }

    pub fn with(store: &Store, settings: Settings) -> Self {
        Identity {
            passwords: Passwords::new(settings.hash_cost),
            settings,
            ciphers: Ciphers::default(),
            memory: Memory::default(),
            store: store.clone(),
        }
    }

    /// What `text` means now. `grace`: how long after its expiry it is still good.
    pub fn session(&self, view: &View, text: &str, now: Timestamp, grace: SignedDuration) -> Result<Arc<Session>, Error> {
        if text.len() > LONGEST_TOKEN {
            return Err(Error::denied("the token is too long"));
        }
        let session = match self.memory.get(view, text) {
            Some(session) => session,
            None => {
                let session = Arc::new(session::judge(view, self.open(view, text)?)?);
                self.memory.put(view, text, session.clone());
                session
            }
        };
        match now.duration_since(session.token.expires) < grace {
            true => Ok(session),
            false => Err(Error::denied("the token has expired")),
        }
    }

    /// The session of who asks for this, which its access rules allow.
    pub(crate) fn asking(&self, view: &View, text: &str, asked: &Asked<'_>, now: Timestamp) -> Result<Arc<Session>, Error> {
        let session = self.session(view, text, now, SignedDuration::ZERO)?;
        match session.obeys_access_rules(view, asked) {
            true => Ok(session),
            false => Err(Error::denied("no access rule of the application credential allows this")),
        }
    }

    fn open(&self, view: &View, text: &str) -> Result<Token, Error> {
        let sealed = URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::denied("the token is not base64"))?;
        Token::decode(&self.ciphers.open(view, KeyPurpose::Token, &sealed)?)
    }

    /// The text of a token.
    pub(crate) fn seal(&self, view: &View, token: &Token) -> Result<String, Error> {
        let text = URL_SAFE_NO_PAD.encode(self.ciphers.seal(view, KeyPurpose::Token, &token.encode())?);
        match text.len() <= LONGEST_TOKEN {
            true => Ok(text),
            false => Err(Error::internal(format!("a token of user {} has {} characters", token.user, text.len()))),
        }
    }

    /// Makes a new key for tokens when the newest is old. Log-ins call it; so may anybody.
    pub async fn rotate_when_due(&self) -> Result<(), Error> {
        if !keys::is_due(&self.store.view(), KeyPurpose::Token, Timestamp::now()) {
            return Ok(());
        }
        self.rotate_with(keys::rotate_if_due).await
    }

    /// Makes a new key for tokens now, whatever the age of the newest.
    pub async fn rotate_keys(&self) -> Result<(), Error> {
        self.rotate_with(keys::rotate).await
    }

    async fn rotate_with(&self, how: fn(&mut unkai_store::Tx, KeyPurpose, SignedDuration) -> Result<(), Error>) -> Result<(), Error> {
        let life = self.settings.token_life + self.settings.expired_window;
        self.store.transact(move |tx| how(tx, KeyPurpose::Token, life)).await
    }
}

impl Authenticate for Identity {
    fn authenticate(&self, view: &View, token: &str, asked: &Asked<'_>, now: Timestamp) -> Result<Arc<CallerName>, Error> {
        self.asking(view, token, asked, now).map(|session| session.name.clone())
    }
}
