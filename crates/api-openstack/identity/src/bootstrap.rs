//! The first documents: the default domain, the administrator with its roles, and the catalog. Safe to run at every start: it adds what
//! is missing, keeps what an administrator changed, and makes the catalog follow the cloud's URL.

use unkai_model::identity::{Actor, Assignment, Endpoint, Interface, KeyPurpose, Password, Project, Region, Role, Scope, Service, User};
use unkai_model::{Error, Id, Kind, Meta};
use unkai_store::{Store, Tx};

use crate::identity::Settings;
use crate::passwords::{Cost, Passwords};
use crate::tokens::keys;

/// What every cloud of ours serves: name, type, path below the cloud's URL.
const SERVICES: [(&str, &str, &str); 6] = [
    ("keystone", "identity", "/identity"),
    ("nova", "compute", "/compute/v2.1"),
    ("cinder", "block-storage", "/volume/v3/$(project_id)s"),
    ("cinderv3", "volumev3", "/volume/v3/$(project_id)s"),
    ("glance", "image", "/image"),
    ("neutron", "network", "/network"),
];

#[derive(Debug, Clone)]
pub struct BootstrapOptions {
    /// Set when the administrator is made; an administrator that exists keeps its password. None: a random one.
    pub admin_password: Option<String>,
    pub region: String,
    /// The cloud's URL, no slash at the end.
    pub url: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrapped {
    /// The administrator's password, only when it was made by this run.
    pub admin_password: Option<String>,
    pub admin_user: Id<User>,
    pub admin_project: Id<Project>,
}

/// From the strongest to the weakest; each implies the next.
const ROLES: [&str; 4] = ["admin", "manager", "member", "reader"];
const ADMIN: &str = "admin";
/// For services that speak to each other; implies nothing.
const SERVICE: &str = "service";

pub async fn bootstrap(store: &Store, options: BootstrapOptions) -> Result<Bootstrapped, Error> {
    bootstrap_at(store, options, Cost::default()).await
}

/// The same, with the administrator's password hashed at another cost.
pub async fn bootstrap_at(store: &Store, options: BootstrapOptions, cost: Cost) -> Result<Bootstrapped, Error> {
    let name = format!("{}/{ADMIN}", Project::DEFAULT_DOMAIN);
    // Hashing is slow, so it happens only when there is nobody yet, and outside of the transaction.
    let fresh = match store.read().await?.is_claimed("user-name", &name) {
        true => None,
        false => {
            let password = options.admin_password.clone().map_or_else(random_password, Ok)?;
            let hash = Passwords::new(cost).hash(&password).await?;
            Some((password, hash))
        }
    };
    let settings = Settings::default();
    let longest = settings.token_life + settings.expired_window;
    let made = store
        .transact(move |tx| -> Result<_, Error> {
            keys::rotate_if_due(tx, KeyPurpose::Token, longest)?;
            if keys::newest(&tx.view(), KeyPurpose::Credential).is_none() {
                keys::rotate(tx, KeyPurpose::Credential, longest)?;
            }
            let domain = domain(tx)?;
            let project = project(tx, &domain)?;
            let admin_role = roles(tx)?;
            let (user, is_new) = admin(tx, &domain, fresh.as_ref().map(|(_, hash)| hash.as_str()))?;
            grant(tx, &user, Scope::Project(project.clone()), &admin_role)?;
            grant(tx, &user, Scope::System, &admin_role)?;
            catalog(tx, &options)?;
            let admin_password = fresh.as_ref().filter(|_| is_new).map(|(password, _)| password.clone());
            Ok(Bootstrapped { admin_password, admin_user: user, admin_project: project })
        })
        .await?;
    Ok(made)
}

fn random_password() -> Result<String, Error> {
    use base64::Engine;
    let mut bytes = [0; 18];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|e| Error::caused("asking for random bytes", e))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

fn domain(tx: &mut Tx) -> Result<Id<Project>, Error> {
    let id = Id::from(Project::DEFAULT_DOMAIN);
    if tx.get::<Project>(&id).is_none() {
        let mut domain = Project::domain(id.clone(), "Default");
        domain.description = "The default domain".into();
        tx.insert(domain)?;
    }
    Ok(id)
}

fn project(tx: &mut Tx, domain: &Id<Project>) -> Result<Id<Project>, Error> {
    if let Some(id) = tx.holder("project-name", &format!("{domain}/{ADMIN}")) {
        return Ok(id);
    }
    let mut project = Project::new(tx.new_hex_id::<Project>(), ADMIN, domain, domain);
    project.description = "Bootstrap project for initializing the cloud.".into();
    Ok(tx.insert(project)?.meta.id.clone())
}

/// Makes the roles and their implications; answers with the strongest.
fn roles(tx: &mut Tx) -> Result<Id<Role>, Error> {
    role(tx, SERVICE, None)?;
    let mut weaker: Option<Id<Role>> = None;
    for name in ROLES.into_iter().rev() {
        weaker = Some(role(tx, name, weaker.take())?);
    }
    weaker.ok_or_else(|| Error::internal("there are no roles to make"))
}

fn role(tx: &mut Tx, name: &str, implies: Option<Id<Role>>) -> Result<Id<Role>, Error> {
    if let Some(id) = tx.holder("role-name", &format!("/{name}")) {
        return Ok(id);
    }
    let mut role = Role::new(tx.new_hex_id::<Role>(), name);
    role.options.insert("immutable".into(), true.into());
    role.implies.extend(implies);
    Ok(tx.insert(role)?.meta.id.clone())
}

fn admin(tx: &mut Tx, domain: &Id<Project>, hash: Option<&str>) -> Result<(Id<User>, bool), Error> {
    if let Some(id) = tx.holder("user-name", &format!("{domain}/{ADMIN}")) {
        return Ok((id, false));
    }
    let hash = hash.ok_or_else(|| Error::unavailable("the administrator was deleted while it was looked for"))?;
    let mut user = User::new(tx.new_hex_id::<User>(), ADMIN, domain);
    user.password = Some(Password { hash: hash.into(), set: tx.now() });
    Ok((tx.insert(user)?.meta.id.clone(), true))
}

fn grant(tx: &mut Tx, user: &Id<User>, scope: Scope, role: &Id<Role>) -> Result<(), Error> {
    let assignment = Assignment::new(Actor::User(user.clone()), scope, role.clone(), false);
    if tx.get(&assignment.meta.id).is_none() {
        tx.insert(assignment)?;
    }
    Ok(())
}

fn catalog(tx: &mut Tx, options: &BootstrapOptions) -> Result<(), Error> {
    let region = Id::<Region>::from(options.region.as_str());
    if tx.get(&region).is_none() {
        tx.insert(Region { meta: Meta::new(region.clone()), parent: None, description: String::new(), extra: Default::default() })?;
    }
    for (name, r#type, path) in SERVICES {
        let service = service(tx, name, r#type)?;
        for interface in Interface::ALL {
            endpoint(tx, &service, interface, &region, &format!("{}{path}", options.url))?;
        }
    }
    Ok(())
}

fn service(tx: &mut Tx, name: &str, r#type: &str) -> Result<Id<Service>, Error> {
    let known = tx.all::<Service>().find(|service| service.r#type == r#type && service.meta.name == name);
    if let Some(known) = known {
        return Ok(known.meta.id.clone());
    }
    let meta = Meta::new(tx.new_hex_id::<Service>()).named(name);
    let service = Service { meta, r#type: r#type.into(), enabled: true, description: None, extra: Default::default() };
    Ok(tx.insert(service)?.meta.id.clone())
}

fn endpoint(tx: &mut Tx, service: &Id<Service>, interface: Interface, region: &Id<Region>, url: &str) -> Result<(), Error> {
    let known = tx
        .by_index::<Endpoint>("service", service.as_str())
        .find(|endpoint| endpoint.interface == interface && endpoint.region.as_ref() == Some(region));
    match known {
        Some(known) if known.url == url => {}
        Some(known) => {
            tx.update(&known.meta().id, |endpoint: &mut Endpoint| -> Result<(), Error> {
                endpoint.url = url.to_owned();
                Ok(())
            })?;
        }
        None => {
            let meta = Meta::new(tx.new_hex_id::<Endpoint>());
            let region = Some(region.clone());
            let extra = Default::default();
            tx.insert(Endpoint { meta, service: service.clone(), interface, region, url: url.into(), enabled: true, extra })?;
        }
    }
    Ok(())
}
