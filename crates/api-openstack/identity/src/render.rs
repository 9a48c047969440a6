//! A session as the body of a token answer.

use bytes::Bytes;
use serde_json::{Value, json};
use unkai_model::identity::Project;
use unkai_openstack::iso_micros;
use unkai_store::View;

use crate::catalog::catalog;
use crate::tokens::payload::audit_text;
use crate::tokens::session::{Place, Session};

fn named(project: &Project) -> Value {
    json!({"id": project.meta.id, "name": project.meta.name})
}

pub fn token(view: &View, session: &Session, with_catalog: bool) -> Value {
    let Session { token, user, user_domain, .. } = session;
    let audit_ids: Vec<String> = std::iter::once(&token.audit).chain(&token.parent).map(audit_text).collect();
    let mut body = json!({
        "methods": token.methods.iter().map(|method| method.as_str()).collect::<Vec<_>>(),
        "user": {"domain": named(user_domain), "id": user.meta.id, "name": user.meta.name, "password_expires_at": null},
        "audit_ids": audit_ids,
        "expires_at": iso_micros(token.expires),
        "issued_at": iso_micros(token.issued),
    });
    match &session.place {
        Place::Nowhere => {}
        Place::System => body["system"] = json!({"all": true}),
        Place::Domain(domain) => body["domain"] = named(domain),
        Place::Project { project, domain } => {
            body["project"] = json!({"domain": named(domain), "id": project.meta.id, "name": project.meta.name});
            body["is_domain"] = project.is_domain.into();
        }
    }
    if !matches!(session.place, Place::Nowhere) {
        body["roles"] = session.roles.iter().map(|(id, name)| json!({"id": id, "name": name})).collect();
        if with_catalog {
            body["catalog"] = catalog(view, user.meta.id.as_str(), session.name.project.as_ref());
        }
    }
    if let Some(credential) = &session.app_credential {
        let mut shown = json!({"id": credential.meta.id, "name": credential.meta.name, "restricted": !credential.unrestricted});
        let rules = credential.access_rules.iter().filter_map(|id| view.get(id));
        let rules: Vec<Value> = rules.map(|rule| access_rule(&rule)).collect();
        if !rules.is_empty() {
            shown["access_rules"] = rules.into();
        }
        body["application_credential"] = shown;
    }
    json!({"token": body})
}

pub fn access_rule(rule: &unkai_model::identity::AccessRule) -> Value {
    json!({"id": rule.meta.id, "service": rule.service, "method": rule.method, "path": rule.path})
}

/// The same as bytes; the form with the catalog is made once for a session.
pub fn token_bytes(view: &View, session: &Session, with_catalog: bool) -> Bytes {
    let make = || Bytes::from(token(view, session, with_catalog).to_string());
    if with_catalog { session.rendered.get_or_init(make).clone() } else { make() }
}
