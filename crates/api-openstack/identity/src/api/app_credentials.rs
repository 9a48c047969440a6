//! /v3/users/{id}/application_credentials and access_rules: some of a user's roles, for a program.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use unkai_model::identity::{AccessRule, AppCredential, Role, User};
use unkai_model::{Error, Id, Meta};
use unkai_openstack::{Cloud, Routes, iso};
use unkai_store::{Tx, View};

use crate::passwords::LONGEST;
use crate::render::access_rule;
use crate::web::body::{Extra, Field, may, must};
use crate::web::who::Service;
use crate::web::{Answer, Is, Json, Params, Part, Refusal, Who, created, no_content, ok};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/users/{user_id}/application_credentials", list)
        .post("/v3/users/{user_id}/application_credentials", create)
        .get("/v3/users/{user_id}/application_credentials/{id}", get)
        .delete("/v3/users/{user_id}/application_credentials/{id}", delete)
        .get("/v3/users/{user_id}/access_rules", list_rules)
        .get("/v3/users/{user_id}/access_rules/{id}", get_rule)
        .delete("/v3/users/{user_id}/access_rules/{id}", delete_rule)
}

const CREATE: &[Field] = &[
    must("name", Is::Name(255)),
    may("description", Is::NullText),
    may("secret", Is::NullText),
    may("expires_at", Is::NullTime),
    may("roles", Is::List),
    may("unrestricted", Is::Bool),
    may("access_rules", Is::List),
];
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
const LONGEST_PATH: usize = 128;

fn render(cloud: &Cloud, view: &View, credential: &AppCredential) -> Value {
    let roles = credential.roles.iter().filter_map(|id| view.get(id));
    let roles: Vec<Value> = roles.map(|role| json!({"id": role.meta.id, "name": role.meta.name, "domain_id": role.domain})).collect();
    let own = format!("{}/v3/users/{}/application_credentials/{}", crate::base(cloud), credential.user, credential.meta.id);
    let mut shown = json!({
        "id": credential.meta.id,
        "name": credential.meta.name,
        "description": credential.description,
        "user_id": credential.user,
        "project_id": credential.project,
        "system": null,
        "roles": roles,
        "expires_at": credential.expires.map(iso),
        "unrestricted": credential.unrestricted,
        "links": {"self": own},
    });
    if !credential.access_rules.is_empty() {
        shown["access_rules"] = credential.access_rules.iter().filter_map(|id| view.get(id)).map(|rule| access_rule(&rule)).collect();
    }
    shown
}

fn missing(id: &Id<AppCredential>) -> Refusal {
    Refusal::not_found("application credential", id)
}

/// A program may not make its own successors, unless it was told it may.
fn may_manage(who: &Who) -> Answer<()> {
    let restricted = who.app_credential.as_ref().is_some_and(|credential| !credential.unrestricted);
    match restricted {
        false => Ok(()),
        true => Err(Refusal::not_allowed(
            "Using method 'application_credential' is not allowed for managing additional application credentials.",
        )),
    }
}

async fn list(State(cloud): State<Cloud>, who: Who, Path(user): Path<String>, params: Params) -> Answer {
    let user = Id::<User>::from(user);
    who.allow("list_application_credentials", who.reads_all() || who.is_user(&user))?;
    let view = cloud.store.read().await?;
    let found = view.by_index::<AppCredential>("user", user.as_str());
    let items = found.map(|credential| render(&cloud, &view, &credential)).collect();
    let path = format!("/v3/users/{user}/application_credentials");
    Ok(ok(&params.collection(&crate::base(&cloud), &path, "application_credentials", items, &["name"])))
}

/// The credential, whoever the path says it belongs to: only its real owner counts.
async fn seen(cloud: &Cloud, who: &Who, id: &Id<AppCredential>, action: &str, allowed: bool) -> Answer<Arc<AppCredential>> {
    let credential = cloud.store.read().await?.get(id);
    let own = credential.as_ref().is_some_and(|credential| who.is_user(&credential.user));
    // A user may ask for what is not there under its own name.
    who.allow(action, allowed || own)?;
    credential.ok_or_else(|| missing(id))
}

type Two = Path<(String, String)>;

async fn get(State(cloud): State<Cloud>, who: Who, Path((user, id)): Two) -> Answer {
    let (user, id) = (Id::<User>::from(user), Id::<AppCredential>::from(id));
    let view = cloud.store.read().await?;
    let absent_own = who.is_user(&user) && view.get(&id).is_none();
    let credential = seen(&cloud, &who, &id, "get_application_credential", who.reads_all() || absent_own).await?;
    Ok(ok(&json!({"application_credential": render(&cloud, &view, &credential)})))
}

async fn delete(State(cloud): State<Cloud>, who: Who, Path((user, id)): Two) -> Answer {
    may_manage(&who)?;
    let (user, id) = (Id::<User>::from(user), Id::<AppCredential>::from(id));
    let absent_own = who.is_user(&user) && cloud.store.read().await?.get(&id).is_none();
    seen(&cloud, &who, &id, "delete_application_credential", who.is_admin() || absent_own).await?;
    cloud.store.transact(move |tx| tx.delete(&id).map(drop).map_err(|_: Error| missing(&id))).await?;
    Ok(no_content())
}

async fn create(State(cloud): State<Cloud>, who: Who, service: Service, Path(user): Path<String>, body: Json) -> Answer {
    let user = Id::<User>::from(user);
    who.allow("create_application_credential", who.is_user(&user))?;
    may_manage(&who)?;
    let part = body.part("application_credential", CREATE, Extra::Refused)?;
    let project = who.project().cloned().ok_or_else(|| Refusal::not_allowed("identity:create_application_credential"))?;
    let roles = roles(&cloud.store.read().await?, &who, &part)?;
    let expires = expiry(&part)?;
    let rules = rules(&part)?;
    let secret = part.text("secret").map_or_else(random_secret, |secret| Ok(secret.to_owned()))?;
    if secret.len() > LONGEST {
        return Err(Refusal::invalid("Invalid input for field 'secret': too long"));
    }
    let secret_hash = service.passwords.hash(&secret).await?;
    let insert = move |tx: &mut Tx| -> Answer<(Arc<AppCredential>, View)> {
        let meta = Meta::new(tx.new_hex_id::<AppCredential>()).named(part.text("name").unwrap_or_default());
        let access_rules = rules.iter().map(|rule| rule.store(tx, &user)).collect::<Answer<Vec<_>>>()?;
        let credential = AppCredential {
            meta,
            user: user.clone(),
            project: project.clone(),
            description: part.text("description").map(str::to_owned),
            secret_hash: secret_hash.clone(),
            roles: roles.clone(),
            expires,
            unrestricted: part.flag("unrestricted").unwrap_or(false),
            access_rules,
        };
        Ok((tx.insert(credential)?, tx.view()))
    };
    let (credential, view) = cloud.store.transact(insert).await?;
    let mut shown = render(&cloud, &view, &credential);
    shown["secret"] = secret.into();
    Ok(created(&json!({"application_credential": shown})))
}

fn random_secret() -> Answer<String> {
    let mut bytes = [0; 64];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|e| Error::caused("asking for random bytes", e))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn invalid(detail: impl std::fmt::Display) -> Refusal {
    Refusal::invalid(format!("Invalid application credential: {detail}"))
}

/// The roles asked for, all of which the token must have; or all of the token's.
fn roles(view: &View, who: &Who, part: &Part) -> Answer<BTreeSet<Id<Role>>> {
    let held: BTreeSet<Id<Role>> = who.roles.iter().map(|(id, _)| id.clone()).collect();
    let asked = part.list("roles").map_or(&[][..], Vec::as_slice);
    if asked.is_empty() {
        return Ok(held);
    }
    asked
        .iter()
        .map(|role| {
            let text = |name: &str| role.get(name).and_then(Value::as_str);
            let id = match (text("id"), text("name")) {
                (Some(id), _) => Id::<Role>::from(id),
                (None, Some(name)) => view.holder("role-name", &format!("/{name}")).ok_or_else(|| Refusal::not_found("role", name))?,
                (None, None) => return Err(Refusal::missing("id or name", "role")),
            };
            view.get(&id).ok_or_else(|| super::roles::missing(&id))?;
            if held.contains(&id) { Ok(id) } else { Err(invalid(format!("Could not find role assignment for role {id}"))) }
        })
        .collect()
}

fn expiry(part: &Part) -> Answer<Option<Timestamp>> {
    let Some(text) = part.text("expires_at") else { return Ok(None) };
    let time: Timestamp = text.parse().or_else(|_| format!("{text}Z").parse()).map_err(|_| invalid("expires_at is no time"))?;
    if time <= Timestamp::now() {
        let text = "The 'expires_at' must not be before now. The server could not comply with the request since it is either \
                    malformed or otherwise incorrect. The client is assumed to be in error.";
        return Err(Refusal::invalid(text));
    }
    Ok(Some(time))
}

/// A rule as a request names it.
#[derive(Debug, Clone)]
enum Rule {
    Known(Id<AccessRule>),
    New { service: String, method: String, path: String },
}

fn rules(part: &Part) -> Answer<Vec<Rule>> {
    part.list("access_rules").into_iter().flatten().map(Rule::parse).collect()
}

impl Rule {
    fn parse(value: &Value) -> Answer<Self> {
        let map = value.as_object().ok_or_else(|| Refusal::invalid(format!("{value} is not of type 'object'")))?;
        let text = |name: &str| map.get(name).and_then(Value::as_str).map(str::to_owned);
        if let (1, Some(id)) = (map.len(), text("id")) {
            return Ok(Rule::Known(id.into()));
        }
        let unknown = map.keys().find(|name| !["id", "service", "method", "path"].contains(&name.as_str()));
        if let Some(name) = unknown {
            return Err(Refusal::invalid(format!("Additional properties are not allowed ('{name}' was unexpected)")));
        }
        match (text("service"), text("method"), text("path")) {
            (Some(service), Some(method), Some(path)) if METHODS.contains(&method.as_str()) => {
                let good = path.starts_with('/') && path.len() <= LONGEST_PATH && !service.is_empty() && service.len() <= 64;
                if good { Ok(Rule::New { service, method, path }) } else { Err(Refusal::invalid(format!("{value} is not an access rule"))) }
            }
            _ => Err(Refusal::invalid(format!("{value} is not an access rule"))),
        }
    }

    /// The document of this rule; an equal one of the same user is used again.
    fn store(&self, tx: &mut Tx, user: &Id<User>) -> Answer<Id<AccessRule>> {
        match self {
            Rule::Known(id) => {
                let known = tx.get(id).filter(|rule| rule.user == *user);
                known.map(|rule| rule.meta.id.clone()).ok_or_else(|| Refusal::not_found("access rule", id))
            }
            Rule::New { service, method, path } => {
                let key = format!("{user}/{service}/{method}/{path}");
                if let Some(id) = tx.holder("access-rule", &key) {
                    return Ok(id);
                }
                let meta = Meta::new(tx.new_hex_id::<AccessRule>());
                let (user, service, method, path) = (user.clone(), service.clone(), method.clone(), path.clone());
                Ok(tx.insert(AccessRule { meta, user, service, method, path })?.meta.id.clone())
            }
        }
    }
}

fn rule_with_link(cloud: &Cloud, rule: &AccessRule) -> Value {
    let mut shown = access_rule(rule);
    shown["links"] = json!({"self": format!("{}/v3/users/{}/access_rules/{}", crate::base(cloud), rule.user, rule.meta.id)});
    shown
}

async fn list_rules(State(cloud): State<Cloud>, who: Who, Path(user): Path<String>, params: Params) -> Answer {
    let user = Id::<User>::from(user);
    who.allow("list_access_rules", who.reads_all() || who.is_user(&user))?;
    let view = cloud.store.read().await?;
    let items = view.by_index::<AccessRule>("user", user.as_str()).map(|rule| rule_with_link(&cloud, &rule)).collect();
    let (path, filters) = (format!("/v3/users/{user}/access_rules"), &["service", "method", "path"]);
    Ok(ok(&params.collection(&crate::base(&cloud), &path, "access_rules", items, filters)))
}

/// The rule under the user that the path names.
async fn rule(cloud: &Cloud, user: &Id<User>, id: &Id<AccessRule>) -> Answer<Arc<AccessRule>> {
    let rule = cloud.store.read().await?.get(id).filter(|rule| rule.user == *user);
    rule.ok_or_else(|| Refusal::not_found("access rule", id))
}

async fn get_rule(State(cloud): State<Cloud>, who: Who, Path((user, id)): Two) -> Answer {
    let (user, id) = (Id::<User>::from(user), Id::from(id));
    who.allow("get_access_rule", who.reads_all() || who.is_user(&user))?;
    Ok(ok(&json!({"access_rule": rule_with_link(&cloud, &*rule(&cloud, &user, &id).await?)})))
}

async fn delete_rule(State(cloud): State<Cloud>, who: Who, Path((user, id)): Two) -> Answer {
    let (user, id) = (Id::<User>::from(user), Id::<AccessRule>::from(id));
    who.allow("delete_access_rule", who.is_admin() || who.is_user(&user))?;
    may_manage(&who)?;
    rule(&cloud, &user, &id).await?;
    let remove = move |tx: &mut Tx| -> Answer<()> {
        if tx.by_index::<AppCredential>("access-rule", id.as_str()).next().is_some() {
            return Err(Refusal::denied(format!("Unable to delete access rule {id}: it is in use by an application credential.")));
        }
        tx.get(&id).ok_or_else(|| Refusal::not_found("access rule", &id))?;
        tx.delete(&id)?;
        Ok(())
    };
    cloud.store.transact(remove).await?;
    Ok(no_content())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_an_id_or_a_whole_rule() {
        assert!(matches!(Rule::parse(&json!({"id": "x"})), Ok(Rule::Known(_))));
        assert!(matches!(Rule::parse(&json!({"service": "compute", "method": "GET", "path": "/v2.1/*"})), Ok(Rule::New { .. })));
        for bad in [
            json!("x"),
            json!({}),
            json!({"service": "compute", "method": "get", "path": "/x"}),
            json!({"service": "compute", "method": "GET", "path": "x"}),
            json!({"service": "compute", "method": "GET", "path": "/x", "more": 1}),
        ] {
            assert!(Rule::parse(&bad).is_err(), "{bad}");
        }
    }
}
