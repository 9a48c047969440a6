//! What goes with what. Each function deletes one document and everything that has no meaning without it, in one transaction.

use std::sync::Arc;

use unkai_model::identity::{
    AccessRule, Actor, AppCredential, Assignment, Credential, DomainConfig, Endpoint, EndpointAssociation, Filtered, Group, Membership,
    Project, Role, Scope, Service, User,
};
use unkai_model::{Error, Id, Kind};
use unkai_store::Tx;

/// Deletes all that an index finds.
fn sweep<K: Kind>(tx: &mut Tx, index: &'static str, key: &str) -> Result<(), Error> {
    let found: Vec<Arc<K>> = tx.by_index(index, key).collect();
    for document in found {
        tx.delete(&document.meta().id)?;
    }
    Ok(())
}

pub fn user(tx: &mut Tx, id: &Id<User>) -> Result<(), Error> {
    sweep::<Assignment>(tx, "actor", &Actor::User(id.clone()).key())?;
    sweep::<Membership>(tx, "user", id.as_str())?;
    sweep::<AppCredential>(tx, "user", id.as_str())?;
    sweep::<AccessRule>(tx, "user", id.as_str())?;
    sweep::<Credential>(tx, "user", id.as_str())?;
    tx.delete(id)?;
    Ok(())
}

pub fn group(tx: &mut Tx, id: &Id<Group>) -> Result<(), Error> {
    sweep::<Assignment>(tx, "actor", &Actor::Group(id.clone()).key())?;
    sweep::<Membership>(tx, "group", id.as_str())?;
    tx.delete(id)?;
    Ok(())
}

/// Users that have it as their default project lose that default.
pub fn project(tx: &mut Tx, id: &Id<Project>) -> Result<(), Error> {
    sweep::<Assignment>(tx, "scope", &Scope::Project(id.clone()).key())?;
    sweep::<AppCredential>(tx, "project", id.as_str())?;
    sweep::<Credential>(tx, "project", id.as_str())?;
    sweep::<EndpointAssociation>(tx, "project", id.as_str())?;
    let users: Vec<Arc<User>> = tx.by_index("default-project", id.as_str()).collect();
    for user in users {
        tx.update(&user.meta.id, |user: &mut User| -> Result<(), Error> {
            user.default_project = None;
            Ok(())
        })?;
    }
    tx.delete(id)?;
    Ok(())
}

pub fn role(tx: &mut Tx, id: &Id<Role>) -> Result<(), Error> {
    sweep::<Assignment>(tx, "role", id.as_str())?;
    let priors: Vec<Arc<Role>> = tx.by_index("implies", id.as_str()).collect();
    for prior in priors {
        tx.update(&prior.meta.id, |prior: &mut Role| -> Result<(), Error> {
            prior.implies.remove(id);
            Ok(())
        })?;
    }
    let credentials: Vec<Arc<AppCredential>> = tx.by_index("role", id.as_str()).collect();
    for credential in credentials {
        if credential.roles.len() == 1 {
            tx.delete(&credential.meta.id)?;
            continue;
        }
        tx.update(&credential.meta.id, |credential: &mut AppCredential| -> Result<(), Error> {
            credential.roles.remove(id);
            Ok(())
        })?;
    }
    tx.delete(id)?;
    Ok(())
}

/// Everything in a domain goes with it.
pub fn domain(tx: &mut Tx, id: &Id<Project>) -> Result<(), Error> {
    let mut projects: Vec<Arc<Project>> = crate::tokens::grants::subtree(&tx.view(), id);
    // Children before their parents.
    projects.reverse();
    for below in projects {
        project(tx, &below.meta.id)?;
    }
    let users: Vec<Arc<User>> = tx.by_index("domain", id.as_str()).collect();
    for below in users {
        user(tx, &below.meta.id)?;
    }
    let groups: Vec<Arc<Group>> = tx.by_index("domain", id.as_str()).collect();
    for below in groups {
        group(tx, &below.meta.id)?;
    }
    let roles: Vec<Arc<Role>> = tx.by_index("domain", id.as_str()).collect();
    for below in roles {
        role(tx, &below.meta.id)?;
    }
    if tx.get(&id.of::<DomainConfig>()).is_some() {
        tx.delete(&id.of::<DomainConfig>())?;
    }
    sweep::<Assignment>(tx, "scope", &Scope::Domain(id.clone()).key())?;
    project(tx, id)
}

pub fn endpoint(tx: &mut Tx, id: &Id<Endpoint>) -> Result<(), Error> {
    sweep::<EndpointAssociation>(tx, "what", &Filtered::Endpoint(id.clone()).key())?;
    tx.delete(id)?;
    Ok(())
}

pub fn service(tx: &mut Tx, id: &Id<Service>) -> Result<(), Error> {
    let endpoints: Vec<Arc<Endpoint>> = tx.by_index("service", id.as_str()).collect();
    for below in endpoints {
        endpoint(tx, &below.meta.id)?;
    }
    tx.delete(id)?;
    Ok(())
}

/// Application credentials of a user on a project end when a role of the user there is taken away.
pub fn app_credentials(tx: &mut Tx, user: &Id<User>, project: &Id<Project>) -> Result<(), Error> {
    let found: Vec<Arc<AppCredential>> = tx.by_index("user", user.as_str()).collect();
    for credential in found.into_iter().filter(|credential| credential.project == *project) {
        tx.delete(&credential.meta.id)?;
    }
    Ok(())
}
