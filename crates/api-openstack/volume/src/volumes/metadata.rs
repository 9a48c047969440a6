//! Metadata of volumes and snapshots: words of their owners, at a path of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use unkai_model::Kind;
use unkai_model::volume::{Snapshot, Volume};
use unkai_openstack::Routes;
use unkai_openstack::web::schema::{Schema, object};
use unkai_openstack::web::{Body, Fault};
use unkai_store::Tx;

use crate::cx::Cx;

/// Where a kind keeps its metadata.
pub struct Of<K: Kind> {
    pub read: fn(&K) -> &BTreeMap<String, String>,
    pub write: fn(&mut K) -> &mut BTreeMap<String, String>,
}

impl<K: Kind> Clone for Of<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: Kind> Copy for Of<K> {}

pub fn of_volume() -> Of<Volume> {
    Of { read: |volume| &volume.spec.metadata, write: |volume| &mut volume.spec.metadata }
}

pub fn of_snapshot() -> Of<Snapshot> {
    Of { read: |snapshot| &snapshot.metadata, write: |snapshot| &mut snapshot.metadata }
}

fn is_key(name: &str) -> bool {
    (1..=255).contains(&name.chars().count())
}

/// Keys and values of at most 255 characters.
pub fn schema() -> Schema {
    object().others(is_key, Schema::string(0, 255)).into()
}

pub fn read(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

static ALL: LazyLock<Schema> = LazyLock::new(|| Schema::wrapped("metadata", schema()));
static ONE: LazyLock<Schema> = LazyLock::new(|| {
    let one = object().others(is_key, Schema::string(0, 255)).sizes(1, Some(1));
    Schema::wrapped("meta", one)
});

/// `rule` is the noun in names of policy rules.
pub fn routes<K: Kind>(path: &str, rule: &'static str, of: Of<K>) -> Routes {
    let (all, one) = (format!("{path}/{{id}}/metadata"), format!("{path}/{{id}}/metadata/{{key}}"));
    Routes::new()
        .get(&all, move |cx: Cx| async move {
            let view = cx.view().await?;
            let found = cx.find::<K>(&view, &format!("{rule}:get_{rule}_metadata"))?;
            Ok::<_, Fault>(Json(json!({ "metadata": (of.read)(&found) })))
        })
        .post(&all, move |cx: Cx, body: Body| async move { change(cx, of, rule, body, false).await })
        .put(&all, move |cx: Cx, body: Body| async move { change(cx, of, rule, body, true).await })
        .get(&one, move |cx: Cx| async move {
            let view = cx.view().await?;
            let found = cx.find::<K>(&view, &format!("{rule}:get_{rule}_metadata"))?;
            let key = cx.param("key");
            let value = (of.read)(&found).get(key).ok_or_else(|| missing::<K>(&cx))?;
            Ok::<_, Fault>(Json(json!({ "meta": { key: value } })))
        })
        .put(&one, move |cx: Cx, body: Body| async move { put(cx, of, rule, body).await })
        .delete(&one, move |cx: Cx| async move { remove(cx, of, rule).await })
}

fn missing<K: Kind>(cx: &Cx) -> Fault {
    let noun = K::NOUN;
    let noun = format!("{}{}", noun[..1].to_uppercase(), &noun[1..]);
    Fault::not_found(format!("{noun} {} has no metadata with key {}.", cx.param("id"), cx.param("key")))
}

async fn write<K: Kind>(
    cx: &Cx,
    of: Of<K>,
    rule: String,
    change: impl Fn(&mut BTreeMap<String, String>) -> Result<(), Fault> + Send + 'static,
) -> Result<Arc<K>, Fault> {
    let call = cx.clone();
    cx.store()
        .transact(move |tx: &mut Tx| {
            let found = call.find_to_change::<K>(tx, &rule)?;
            tx.update(&found.meta().id, |found: &mut K| change((of.write)(found)))
        })
        .await
}

async fn change<K: Kind>(cx: Cx, of: Of<K>, rule: &str, body: Body, replace: bool) -> Result<Json<Value>, Fault> {
    let body = body.validated(&ALL, cx.version)?;
    let said = read(&body["metadata"]);
    let verb = if replace { "update" } else { "create" };
    let found = write(&cx, of, format!("{rule}:{verb}_{rule}_metadata"), move |metadata| {
        if replace {
            metadata.clear();
        }
        metadata.extend(said.clone());
        Ok(())
    })
    .await?;
    Ok(Json(json!({ "metadata": (of.read)(&found) })))
}

async fn put<K: Kind>(cx: Cx, of: Of<K>, rule: &str, body: Body) -> Result<Json<Value>, Fault> {
    let body = body.validated(&ONE, cx.version)?;
    let said = read(&body["meta"]);
    let key = cx.param("key").to_owned();
    let Some(value) = said.get(&key).cloned() else {
        return Err(Fault::bad_request("Request body and URI mismatch"));
    };
    let meta = json!({ &key: value });
    write(&cx, of, format!("{rule}:update_{rule}_metadata"), move |metadata| {
        metadata.insert(key.clone(), value.clone());
        Ok(())
    })
    .await?;
    Ok(Json(json!({ "meta": meta })))
}

async fn remove<K: Kind>(cx: Cx, of: Of<K>, rule: &str) -> Result<Response, Fault> {
    let (key, gone) = (cx.param("key").to_owned(), missing::<K>(&cx));
    write(&cx, of, format!("{rule}:delete_{rule}_metadata"), move |metadata| metadata.remove(&key).map(drop).ok_or_else(|| gone.clone()))
        .await?;
    Ok(StatusCode::OK.into_response())
}
