//! What administrators may do to backups.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use unkai_model::volume::Backup;
use unkai_openstack::web::schema::{Schema, object};
use unkai_openstack::web::{Body, Fault};
use unkai_store::Tx;

use crate::cx::Cx;
use crate::verbs;

/// States that may be said.
const STATES: [&str; 3] = ["available", "error", "deleting"];

pub async fn act(cx: Cx, body: Body) -> Result<Response, Fault> {
    let body = body.unchecked();
    let only = body.as_object().filter(|body| body.len() == 1).and_then(|body| body.iter().next());
    let (name, content) = only.ok_or_else(|| Fault::bad_request("Malformed request body"))?;
    let word = match name.as_str() {
        "os-reset_status" => {
            Schema::from(object().required("status", Schema::string(1, 255))).check_body(content, cx.version)?;
            let word = content["status"].as_str().unwrap_or_default().to_lowercase();
            if !STATES.contains(&word.as_str()) {
                return Err(Fault::bad_request(format!("Must specify a valid status, not '{word}'.")));
            }
            Some(word)
        }
        "os-force_delete" => None,
        other => return Err(Fault::bad_request(format!("There is no such action: {other}"))),
    };
    cx.require_admin(&format!("volume_extension:backup_admin_actions:{}", name.trim_start_matches("os-")))?;
    let id = cx.id::<Backup>();
    cx.store()
        .transact(move |tx: &mut Tx| {
            let Some(word) = &word else { return Ok::<_, Fault>(verbs::delete_backup(tx, &id, true)?) };
            let found = tx.require(&id)?;
            let cleared = Backup { reset: None, ..Backup::clone(&found) };
            let reset = (verbs::backup_state(&tx.view(), &cleared) != word).then(|| word.clone());
            tx.update(&id, |backup: &mut Backup| {
                backup.reset = reset;
                Ok(())
            })
            .map(drop)
        })
        .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Records are for moving backups between clouds that share a repository; a repository here is of one cloud, which knows what is in it.
pub async fn export(cx: Cx) -> Result<Response, Fault> {
    cx.require_admin("backup:export-import")?;
    cx.find::<Backup>(&cx.view().await?, "backup:get")?;
    Err(unsupported())
}

pub async fn import(cx: Cx) -> Result<Response, Fault> {
    cx.require_admin("backup:export-import")?;
    Err(unsupported())
}

fn unsupported() -> Fault {
    Fault::not_implemented("Backup driver does not support records: a repository belongs to one cloud, which knows what is in it.")
}
