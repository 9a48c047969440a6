//! /v3/domains/{id}/config: options of a domain, by group. They are kept and shown; users of all domains are in the store, so there
//! is no back end that would read them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Map, Value, json};
use unkai_model::identity::{DomainConfig, Extra, Project};
use unkai_model::{Id, Meta};
use unkai_openstack::{Cloud, Routes};
use unkai_store::Tx;

use super::domains;
use crate::web::{Answer, Json, Refusal, Who, created, no_content, ok};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v3/domains/config/default", defaults)
        .get("/v3/domains/config/{group}/default", group_defaults)
        .get("/v3/domains/config/{group}/{option}/default", option_default)
        .get("/v3/domains/{domain_id}/config", get)
        .put("/v3/domains/{domain_id}/config", put)
        .patch("/v3/domains/{domain_id}/config", patch)
        .delete("/v3/domains/{domain_id}/config", delete)
        .get("/v3/domains/{domain_id}/config/{group}", get_group)
        .patch("/v3/domains/{domain_id}/config/{group}", patch_group)
        .delete("/v3/domains/{domain_id}/config/{group}", delete_group)
        .get("/v3/domains/{domain_id}/config/{group}/{option}", get_option)
        .patch("/v3/domains/{domain_id}/config/{group}/{option}", patch_option)
        .delete("/v3/domains/{domain_id}/config/{group}/{option}", delete_option)
}

type Groups = BTreeMap<String, Extra>;

/// The groups that a domain may set, with what holds when it does not.
fn known() -> Value {
    json!({
        "identity": {"driver": "sql", "list_limit": null},
        "ldap": {
            "url": "ldap://localhost", "user": null, "password": null, "suffix": "cn=example,cn=com", "query_scope": "one",
            "page_size": 0, "use_tls": false, "user_tree_dn": null, "user_filter": null, "user_objectclass": "inetOrgPerson",
            "user_id_attribute": "cn", "user_name_attribute": "sn", "group_tree_dn": null, "group_filter": null,
            "group_objectclass": "groupOfNames", "group_id_attribute": "cn", "group_name_attribute": "ou",
        },
    })
}

/// Set, but never shown.
fn is_secret(group: &str, option: &str) -> bool {
    (group, option) == ("ldap", "password")
}

fn not_allowed(reason: String) -> Refusal {
    Refusal::denied(format!("Invalid domain specific configuration: {reason}."))
}

fn missing(what: &str, domain: &Id<Project>) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("Could not find {what} in domain configuration for domain {domain}."))
}

/// What a request sets: known groups, known options.
fn parse(config: &Map<String, Value>) -> Answer<Groups> {
    let known = known();
    let mut groups = Groups::new();
    for (group, options) in config {
        let allowed = known.get(group).ok_or_else(|| not_allowed(format!("Group {group} is not supported")))?;
        let options = options.as_object().ok_or_else(|| not_allowed(format!("Group {group} is not a set of options")))?;
        for option in options.keys() {
            if allowed.get(option).is_none() {
                return Err(not_allowed(format!("Option {option} in group {group} is not supported")));
            }
        }
        groups.insert(group.clone(), options.clone().into_iter().collect());
    }
    if groups.is_empty() { Err(not_allowed("No options specified".into())) } else { Ok(groups) }
}

fn config(body: &Value) -> Answer<&Map<String, Value>> {
    body.get("config").and_then(Value::as_object).ok_or_else(|| Refusal::missing("config", "request body"))
}

fn shown(groups: &Groups) -> Value {
    let visible = |group: &str, options: &Extra| -> Map<String, Value> {
        options.iter().filter(|(option, _)| !is_secret(group, option)).map(|(option, value)| (option.clone(), value.clone())).collect()
    };
    groups.iter().map(|(group, options)| (group.clone(), Value::Object(visible(group, options)))).collect::<Map<_, _>>().into()
}

fn answer(value: Value) -> Value {
    json!({ "config": value })
}

async fn defaults(who: Who) -> Answer {
    who.allow("get_domain_config_default", who.reads_all())?;
    Ok(ok(&answer(known())))
}

async fn group_defaults(who: Who, Path(group): Path<String>) -> Answer {
    who.allow("get_domain_config_default", who.reads_all())?;
    let known = known();
    let options = known.get(&group).ok_or_else(|| not_allowed(format!("Group {group} is not supported")))?;
    Ok(ok(&answer(json!({ group: options }))))
}

async fn option_default(who: Who, Path((group, option)): Path<(String, String)>) -> Answer {
    who.allow("get_domain_config_default", who.reads_all())?;
    let known = known();
    let value = known.get(&group).and_then(|options| options.get(&option));
    let value = value.ok_or_else(|| not_allowed(format!("Option {option} in group {group} is not supported")))?;
    Ok(ok(&answer(json!({ option: value }))))
}

async fn read(cloud: &Cloud, who: &Who, domain: &Id<Project>) -> Answer<Groups> {
    who.allow("get_domain_config", who.reads_all())?;
    let view = cloud.store.read().await?;
    domains::find(&view, domain)?;
    Ok(view.get(&domain.of::<DomainConfig>()).map(|config| config.groups.clone()).unwrap_or_default())
}

async fn get(State(cloud): State<Cloud>, who: Who, Path(domain): Path<String>) -> Answer {
    let domain = Id::from(domain);
    let groups = read(&cloud, &who, &domain).await?;
    if groups.is_empty() { Err(missing("any options", &domain)) } else { Ok(ok(&answer(shown(&groups)))) }
}

async fn get_group(State(cloud): State<Cloud>, who: Who, Path((domain, group)): Path<(String, String)>) -> Answer {
    let domain = Id::from(domain);
    let groups: Groups = read(&cloud, &who, &domain).await?.into_iter().filter(|(name, _)| *name == group).collect();
    if groups.is_empty() { Err(missing(&format!("group {group}"), &domain)) } else { Ok(ok(&answer(shown(&groups)))) }
}

type Three = Path<(String, String, String)>;

async fn get_option(State(cloud): State<Cloud>, who: Who, Path((domain, group, option)): Three) -> Answer {
    let domain = Id::from(domain);
    let groups = shown(&read(&cloud, &who, &domain).await?);
    let value = groups.get(&group).and_then(|options| options.get(&option));
    let value = value.ok_or_else(|| missing(&format!("option {option} in group {group}"), &domain))?;
    Ok(ok(&answer(json!({ option: value }))))
}

/// Changes the options of a domain; a document without options is none.
async fn change(
    cloud: &Cloud,
    domain: &Id<Project>,
    change: impl Fn(&mut Groups) -> Answer<()> + Send + 'static,
) -> Answer<(Groups, bool)> {
    let domain = domain.clone();
    let write = move |tx: &mut Tx| -> Answer<(Groups, bool)> {
        domains::find(&tx.view(), &domain)?;
        let id = domain.of::<DomainConfig>();
        let old: Option<Arc<DomainConfig>> = tx.get(&id);
        let mut groups = old.as_ref().map(|config| config.groups.clone()).unwrap_or_default();
        change(&mut groups)?;
        groups.retain(|_, options| !options.is_empty());
        match (&old, groups.is_empty()) {
            (Some(_), true) => drop(tx.delete(&id)?),
            (None, true) => {}
            (None, false) => drop(tx.insert(DomainConfig { meta: Meta::new(id), groups: groups.clone() })?),
            (Some(_), false) => drop(tx.update(&id, |config: &mut DomainConfig| -> Answer<()> {
                config.groups = groups.clone();
                Ok(())
            })?),
        }
        Ok((groups, old.is_some()))
    };
    cloud.store.transact(write).await
}

async fn put(State(cloud): State<Cloud>, who: Who, Path(domain): Path<String>, Json(body): Json) -> Answer {
    who.allow("create_domain_config", who.is_admin())?;
    let new = parse(config(&body)?)?;
    let (groups, existed) = change(&cloud, &domain.into(), move |groups| {
        *groups = new.clone();
        Ok(())
    })
    .await?;
    let body = answer(shown(&groups));
    Ok(if existed { ok(&body) } else { created(&body) })
}

fn merge(groups: &mut Groups, new: &Groups) {
    for (group, options) in new {
        groups.entry(group.clone()).or_default().extend(options.clone());
    }
}

async fn patch(State(cloud): State<Cloud>, who: Who, Path(domain): Path<String>, Json(body): Json) -> Answer {
    who.allow("update_domain_config", who.is_admin())?;
    let (domain, new) = (Id::from(domain), parse(config(&body)?)?);
    let (groups, _) = change(&cloud, &domain, move |groups| {
        merge(groups, &new);
        Ok(())
    })
    .await?;
    Ok(ok(&answer(shown(&groups))))
}

async fn patch_group(State(cloud): State<Cloud>, who: Who, Path((domain, group)): Path<(String, String)>, Json(body): Json) -> Answer {
    who.allow("update_domain_config", who.is_admin())?;
    let (domain, new) = (Id::<Project>::from(domain), parse(config(&body)?)?);
    if new.len() != 1 || !new.contains_key(&group) {
        return Err(not_allowed(format!("The group(s) in the request do not match {group}")));
    }
    let absent = missing(&format!("group {group}"), &domain);
    let (groups, _) = change(&cloud, &domain, move |groups| {
        groups.get(&group).ok_or_else(|| absent.clone())?;
        merge(groups, &new);
        Ok(())
    })
    .await?;
    Ok(ok(&answer(shown(&groups))))
}

async fn patch_option(State(cloud): State<Cloud>, who: Who, Path((domain, group, option)): Three, Json(body): Json) -> Answer {
    who.allow("update_domain_config", who.is_admin())?;
    let value = config(&body)?.get(&option).cloned();
    let value = value.ok_or_else(|| not_allowed(format!("The option(s) in the request do not match {option}")))?;
    let new = parse(&Map::from_iter([(group.clone(), json!({ option.clone(): value }))]))?;
    let domain = Id::<Project>::from(domain);
    let absent = missing(&format!("option {option} in group {group}"), &domain);
    let (groups, _) = change(&cloud, &domain, move |groups| {
        groups.get(&group).and_then(|options| options.get(&option)).ok_or_else(|| absent.clone())?;
        merge(groups, &new);
        Ok(())
    })
    .await?;
    Ok(ok(&answer(shown(&groups))))
}

async fn delete(State(cloud): State<Cloud>, who: Who, Path(domain): Path<String>) -> Answer {
    who.allow("delete_domain_config", who.is_admin())?;
    change(&cloud, &domain.into(), |groups| {
        groups.clear();
        Ok(())
    })
    .await?;
    Ok(no_content())
}

async fn delete_group(State(cloud): State<Cloud>, who: Who, Path((domain, group)): Path<(String, String)>) -> Answer {
    who.allow("delete_domain_config", who.is_admin())?;
    let domain = Id::from(domain);
    let absent = missing(&format!("group {group}"), &domain);
    change(&cloud, &domain, move |groups| groups.remove(&group).map(drop).ok_or_else(|| absent.clone())).await?;
    Ok(no_content())
}

async fn delete_option(State(cloud): State<Cloud>, who: Who, Path((domain, group, option)): Three) -> Answer {
    who.allow("delete_domain_config", who.is_admin())?;
    let domain = Id::from(domain);
    let absent = missing(&format!("option {option} in group {group}"), &domain);
    change(&cloud, &domain, move |groups| {
        let removed = groups.get_mut(&group).and_then(|options| options.remove(&option));
        removed.map(drop).ok_or_else(|| absent.clone())
    })
    .await?;
    Ok(no_content())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_options_and_no_secrets() {
        let config = json!({"ldap": {"url": "ldap://x", "password": "secret"}});
        let groups = parse(config.as_object().unwrap()).unwrap();
        assert_eq!(shown(&groups), json!({"ldap": {"url": "ldap://x"}}));
        for bad in [json!({}), json!({"token": {}}), json!({"ldap": {"what": 1}}), json!({"ldap": 1})] {
            assert!(parse(bad.as_object().unwrap()).is_err(), "{bad}");
        }
    }
}
