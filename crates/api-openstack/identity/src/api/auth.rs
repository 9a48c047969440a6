//! What a caller may ask about tokens: is this one good, end it, where else could I go.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use unkai_model::Error;
use unkai_model::identity::{Revocation, Scope};
use unkai_openstack::{Cloud, Routes};
use unkai_store::Tx;

use crate::catalog::catalog;
use crate::render;
use crate::tokens::grants;
use crate::tokens::payload::audit_text;
use crate::tokens::session::Session;
use crate::web::who::Service;
use crate::web::{Answer, Params, Refusal, Who, no_content, ok};

/// How many revocations that no longer matter one revocation takes away.
const PURGE: usize = 64;

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/auth/tokens", validate)
        .delete("/v3/auth/tokens", revoke)
        .get("/v3/auth/catalog", own_catalog)
        .get("/v3/auth/projects", own_projects)
        .get("/v3/auth/domains", own_domains)
        .get("/v3/auth/system", own_system)
}

fn subject(headers: &HeaderMap) -> Answer<&str> {
    headers.get("x-subject-token").and_then(|value| value.to_str().ok()).ok_or_else(|| Refusal::not_found("token", "None"))
}

/// What is not good is not there, whoever asks.
fn good(session: Result<Arc<Session>, Error>) -> Answer<Arc<Session>> {
    session.map_err(|error| {
        tracing::debug!(%error, "a subject token is not good");
        not_good()
    })
}

pub fn not_good() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "Failed to validate token")
}

/// Answers HEAD too.
async fn validate(State(cloud): State<Cloud>, who: Who, service: Service, method: Method, headers: HeaderMap, params: Params) -> Answer {
    let text = subject(&headers)?;
    let view = cloud.store.read().await?;
    let grace = if params.flag("allow_expired") { service.settings.expired_window } else { SignedDuration::ZERO };
    let session = good(service.session(&view, text, Timestamp::now(), grace))?;
    let own = session.user.meta.id == who.user.meta.id;
    let action = if method == Method::HEAD { "check_token" } else { "validate_token" };
    who.allow(action, who.reads_all() || who.has("service") || own)?;
    let limited = session.app_credential.as_ref().is_some_and(|credential| !credential.access_rules.is_empty());
    if limited && !headers.contains_key("openstack-identity-access-rules") {
        return Err(not_good());
    }
    let body = render::token_bytes(&view, &session, !params.has("nocatalog"));
    Ok(token_answer(StatusCode::OK, text, body))
}

/// A token in its header and what it says in the body.
pub fn token_answer(status: StatusCode, token: &str, body: bytes::Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::VARY, "X-Auth-Token".to_owned()),
        (header::HeaderName::from_static("x-subject-token"), token.to_owned()),
    ];
    (status, headers, body).into_response()
}

async fn revoke(State(cloud): State<Cloud>, who: Who, service: Service, headers: HeaderMap) -> Answer {
    let text = subject(&headers)?;
    let view = cloud.store.read().await?;
    let session = good(service.session(&view, text, Timestamp::now(), SignedDuration::ZERO))?;
    who.allow("revoke_token", who.is_admin() || session.user.meta.id == who.user.meta.id)?;
    let (audit, expires) = (audit_text(&session.token.audit), session.token.expires);
    cloud.store.transact(move |tx| revoke_one(tx, &audit, expires)).await?;
    Ok(no_content())
}

fn revoke_one(tx: &mut Tx, audit: &str, expires: Timestamp) -> Result<(), Error> {
    let now = tx.now();
    let useless: Vec<_> = tx.all::<Revocation>().take(PURGE).take_while(|old| old.expires + super::login::KEEP_REVOKED < now).collect();
    for old in useless {
        tx.delete(&old.meta.id)?;
    }
    let revocation = Revocation::new(audit, expires);
    if tx.get(&revocation.meta.id).is_none() {
        tx.insert(revocation)?;
    }
    Ok(())
}

fn listed(cloud: &Cloud, path: &str, name: &str, items: Vec<Value>) -> Value {
    let links = json!({"next": null, "previous": null, "self": format!("{}{path}", crate::base(cloud))});
    let mut body = json!({ "links": links });
    body[name] = items.into();
    body
}

async fn own_catalog(State(cloud): State<Cloud>, who: Who) -> Answer {
    let project = who.project().ok_or_else(|| Refusal::denied("You are not authorized to perform the requested action."))?;
    let catalog = catalog(&cloud.store.read().await?, who.user.meta.id.as_str(), Some(project));
    let links = json!({"self": format!("{}/v3/auth/catalog", crate::base(&cloud))});
    Ok(ok(&json!({"catalog": catalog, "links": links})))
}

async fn own_projects(State(cloud): State<Cloud>, who: Who) -> Answer {
    let view = cloud.store.read().await?;
    let projects = grants::projects_of(&view, &who.user.meta.id).into_iter().filter(|project| project.enabled);
    let items = projects.map(|project| super::projects::render(&cloud, &project)).collect();
    Ok(ok(&listed(&cloud, "/v3/auth/projects", "projects", items)))
}

async fn own_domains(State(cloud): State<Cloud>, who: Who) -> Answer {
    let view = cloud.store.read().await?;
    let domains = grants::domains_of(&view, &who.user.meta.id).into_iter().filter(|domain| domain.enabled);
    let items = domains.map(|domain| super::domains::render(&cloud, &domain)).collect();
    Ok(ok(&listed(&cloud, "/v3/auth/domains", "domains", items)))
}

async fn own_system(State(cloud): State<Cloud>, who: Who) -> Answer {
    let view = cloud.store.read().await?;
    let some = !grants::effective(&view, &who.user.meta.id, &Scope::System).is_empty();
    let system = if some { json!([{"all": true}]) } else { json!([]) };
    Ok(ok(&json!({"system": system, "links": {"self": format!("{}/v3/auth/system", crate::base(&cloud))}})))
}
