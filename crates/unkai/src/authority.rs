//! The cloud's CA: in the store, made by the first controller, so that every further one has it too.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use unkai_link::ca::Authority;
use unkai_model::controller::CloudAuthority;
use unkai_model::{Error, Id, Meta};
use unkai_store::Store;

use crate::access;
use crate::state::StateDir;

/// Opens it, and leaves its certificate in the state directory for clients. A cloud from before, with the CA in files, keeps that one.
pub async fn open(state: &StateDir, store: &Store) -> Result<Arc<Authority>> {
    let id = Id::<CloudAuthority>::new(CloudAuthority::ID);
    let known = match store.read().await?.get(&id) {
        Some(known) => known,
        None => {
            let (certificate, key) = match from_files(state.path())? {
                Some(files) => files,
                None => Authority::generate()?,
            };
            // Another controller may be doing the same; the first one's counts.
            let make = move |tx: &mut unkai_store::Tx| -> Result<_, Error> {
                let id = Id::<CloudAuthority>::new(CloudAuthority::ID);
                match tx.get(&id) {
                    Some(known) => Ok(known),
                    None => tx.insert(CloudAuthority { meta: Meta::new(id), certificate: certificate.clone(), key: key.clone() }),
                }
            };
            store.transact(make).await.context("entering the cloud's certificate authority")?
        }
    };
    let authority = Authority::from_pem(known.certificate.clone(), &known.key)?;
    access::publish(&state.ca(), authority.pem())?;
    Ok(Arc::new(authority))
}

fn from_files(dir: &Path) -> Result<Option<(String, String)>> {
    let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    if !key.exists() {
        return Ok(None);
    }
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()));
    Ok(Some((read(&certificate)?, read(&key)?)))
}
