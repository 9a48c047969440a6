//! `/os-keypairs`: public keys of a user, imported or made here. A private key is answered once and kept nowhere.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use unkai_model::compute::{KeyPair, KeyType};
use unkai_model::{Error, Meta, Timestamp};
use unkai_openstack::{Caller, CallerName, Cloud, Routes, iso};
use unkai_store::{Store, Tx};

use super::keys::{self, Generated, KeyError};
use super::page::{self, Link, QuerySchema};
use super::{policy, quotas};
use crate::body::Body;
use crate::query::Query;
use crate::schema::{Schema, object};
use crate::{Fault, Microversion};

pub fn routes() -> Routes {
    Routes::new()
        .get("/v2.1/os-keypairs", index)
        .post("/v2.1/os-keypairs", create)
        .get("/v2.1/os-keypairs/{name}", show)
        .delete("/v2.1/os-keypairs/{name}", delete)
}

fn create_schema(public_key_required: bool) -> Schema {
    let object = object().required("name", Schema::name()).optional_in(2.., "type", Schema::one_of(["ssh", "x509"])).optional_in(
        10..,
        "user_id",
        Schema::string(0, usize::MAX),
    );
    let key = Schema::string(0, usize::MAX);
    Schema::wrapped("keypair", if public_key_required { object.required("public_key", key) } else { object.optional("public_key", key) })
}
static CREATE: LazyLock<[Schema; 2]> = LazyLock::new(|| [create_schema(false), create_schema(true)]);
static QUERY: LazyLock<QuerySchema> =
    LazyLock::new(|| QuerySchema::new(object().optional_in(10.., "user_id", Schema::string(0, usize::MAX).many())));
static LIST_QUERY: LazyLock<QuerySchema> = LazyLock::new(|| {
    let text = || Schema::string(0, usize::MAX).many();
    let object = object().optional_in(10.., "user_id", text());
    QuerySchema::new(object.optional_in(35.., "limit", Schema::count().many()).optional_in(35.., "marker", text()))
});

/// Whose keys the request is about: another user's from 2.10 on, if the policy lets.
fn owner(caller: &CallerName, version: Microversion, asked: Option<&str>, action: &str) -> Result<String, Fault> {
    let user = asked.filter(|_| version.at_least(10)).unwrap_or(&caller.user);
    policy::allow(caller.is_admin() || user == caller.user, &format!("os_compute_api:os-keypairs:{action}"))?;
    Ok(user.to_owned())
}

fn absent(user: &str, name: &str) -> Fault {
    Fault::not_found(format!("Keypair {name} not found for user {user}"))
}

#[derive(Serialize)]
struct Brief<'a> {
    name: &'a str,
    public_key: &'a str,
    fingerprint: &'a str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
}

impl<'a> Brief<'a> {
    fn new(pair: &'a KeyPair, version: Microversion) -> Self {
        Brief {
            name: &pair.meta.name,
            public_key: &pair.public_key,
            fingerprint: &pair.fingerprint,
            kind: version.at_least(2).then(|| pair.algorithm.as_str()),
        }
    }
}

#[derive(Serialize)]
struct Item<'a> {
    keypair: Brief<'a>,
}

#[derive(Serialize)]
struct List<'a> {
    keypairs: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keypairs_links: Option<Vec<Link>>,
}

async fn index(State(cloud): State<Cloud>, caller: Caller, version: Microversion, query: Query) -> Result<Response, Fault> {
    LIST_QUERY.check(&query, version)?;
    let user = owner(&caller, version, query.get("user_id"), "index")?;
    let view = cloud.store.read().await?;
    // The ids are `user/name`, so that the index yields them by name.
    let mut pairs: Vec<Arc<KeyPair>> = view.by_index("user", &user).collect();
    let mut keypairs_links = None;
    if version.at_least(35) {
        pairs = page::cut(pairs, &query, |pair| &pair.meta.name, |marker| format!("Marker {marker} could not be found."))?;
        let last = pairs.last().map(|pair| pair.meta.name.as_str());
        keypairs_links = page::next(&cloud, "os-keypairs", &query, pairs.len(), last);
    }
    let keypairs = pairs.iter().map(|pair| Item { keypair: Brief::new(pair, version) }).collect();
    Ok(Json(List { keypairs, keypairs_links }).into_response())
}

async fn show(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(name): Path<String>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    QUERY.check(&query, version)?;
    let user = owner(&caller, version, query.get("user_id"), "show")?;
    let view = cloud.store.read().await?;
    let pair = view.get(&KeyPair::id(&user, &name)).ok_or_else(|| absent(&user, &name))?;
    let mut shown = json!(Brief::new(&pair, version));
    shown["user_id"] = json!(pair.user);
    shown["id"] = json!(pair.number);
    shown["created_at"] = json!(iso(pair.meta.created));
    shown["deleted"] = json!(false);
    (shown["deleted_at"], shown["updated_at"]) = (Value::Null, Value::Null);
    Ok(Json(json!({ "keypair": shown })))
}

async fn delete(
    State(cloud): State<Cloud>,
    caller: Caller,
    version: Microversion,
    Path(name): Path<String>,
    query: Query,
) -> Result<StatusCode, Fault> {
    QUERY.check(&query, version)?;
    let user = owner(&caller, version, query.get("user_id"), "delete")?;
    let id = KeyPair::id(&user, &name);
    let gone = cloud.store.transact(move |tx| tx.delete(&id)).await;
    match gone {
        Ok(_) if version.at_least(2) => Ok(StatusCode::NO_CONTENT),
        Ok(_) => Ok(StatusCode::ACCEPTED),
        Err(Error::NotFound { .. }) => Err(absent(&user, &name)),
        Err(error) => Err(error.into()),
    }
}

async fn create(State(cloud): State<Cloud>, caller: Caller, version: Microversion, body: Body) -> Result<Response, Fault> {
    let body = body.validated(&CREATE[usize::from(version.at_least(92))], version)?;
    let body = &body["keypair"];
    let user = owner(&caller, version, body["user_id"].as_str(), "create")?;
    let name = body["name"].as_str().unwrap_or("");
    check_name(name, version)?;
    let algorithm = if body["type"] == "x509" { KeyType::X509 } else { KeyType::Ssh };
    let (public_key, fingerprint, private_key) = match body["public_key"].as_str() {
        Some(key) => (key.to_owned(), read(algorithm, key)?, None),
        None => {
            let made = generate(algorithm, user.clone()).await?;
            (made.public_key, made.fingerprint, Some(made.private_key))
        }
    };
    let meta = Meta::new(KeyPair::id(&user, name)).named(name);
    let pair = insert(&cloud.store, &caller, KeyPair { meta, user, number: 0, algorithm, public_key, fingerprint }).await?;
    let mut shown = json!(Brief::new(&pair, version));
    shown["user_id"] = json!(pair.user);
    if let Some(private_key) = private_key {
        shown["private_key"] = json!(private_key);
    }
    let status = if version.at_least(2) { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(json!({ "keypair": shown }))).into_response())
}

/// Names go into file names of guests and into URLs.
fn check_name(name: &str, version: Microversion) -> Result<(), Fault> {
    let more = if version.at_least(92) { "@." } else { "" };
    let safe = |c: char| c.is_ascii_alphanumeric() || "_- ".contains(c) || more.contains(c);
    if name.chars().all(safe) { Ok(()) } else { Err(invalid("Keypair name contains unsafe characters")) }
}

fn invalid(reason: &str) -> Fault {
    Fault::bad_request(format!("Keypair data is invalid: {reason}"))
}

fn read(algorithm: KeyType, key: &str) -> Result<String, Fault> {
    let fingerprint = match algorithm {
        KeyType::Ssh => keys::ssh_fingerprint(key),
        KeyType::X509 => keys::x509_fingerprint(key),
    };
    fingerprint.map_err(|error| invalid(&error.to_string()))
}

/// On a thread where it may take its time.
async fn generate(algorithm: KeyType, user: String) -> Result<Generated, Fault> {
    let make = move || match algorithm {
        KeyType::Ssh => keys::ssh_pair(),
        KeyType::X509 => keys::x509_pair(&user, Timestamp::now()),
    };
    let made: Result<Generated, KeyError> =
        tokio::task::spawn_blocking(make).await.map_err(|error| Error::caused("waiting for a new key pair", error))?;
    made.map_err(|error| Error::caused("making a key pair", error).into())
}

async fn insert(store: &Store, caller: &CallerName, pair: KeyPair) -> Result<Arc<KeyPair>, Fault> {
    let name = pair.meta.name.clone();
    let project = caller.project.clone();
    let inserted = store
        .transact(move |tx: &mut Tx| {
            if let Some(project) = &project {
                let most = quotas::limit(&tx.view(), project, Some(&pair.user), "key_pairs");
                tx.limit("key_pairs", "key_pairs", &pair.user, most);
            }
            let number = u32::from_be_bytes(tx.random()) >> 1;
            tx.insert(KeyPair { number, ..pair.clone() })
        })
        .await;
    inserted.map_err(|error| match error {
        Error::Taken { .. } => Fault::conflict(format!("Key pair '{name}' already exists.")),
        Error::Quota { .. } => Fault::forbidden("Quota exceeded, too many key pairs."),
        other => other.into(),
    })
}
