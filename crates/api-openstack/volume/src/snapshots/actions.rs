//! `POST /snapshots/{id}/action`.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use unkai_model::volume::Snapshot;
use unkai_openstack::web::schema::{Format, Schema, object};
use unkai_openstack::web::{Body, Fault};
use unkai_store::Tx;

use crate::cx::Cx;
use crate::verbs;

const PERCENT: Format = Format {
    name: "progress",
    accepts: |text| text.trim_end_matches('%').parse::<u8>().is_ok_and(|percent| percent <= 100) && !text.starts_with('+'),
    message: None,
};

/// States that an administrator may say.
const STATES: [&str; 5] = ["available", "creating", "deleting", "error", "error_deleting"];

pub async fn act(cx: Cx, body: Body) -> Result<Response, Fault> {
    let body = body.unchecked();
    let only = body.as_object().filter(|body| body.len() == 1).and_then(|body| body.iter().next());
    let (name, content) = only.ok_or_else(|| Fault::bad_request("Malformed request body"))?;
    let said = name == "os-update_snapshot_status";
    let word = match name.as_str() {
        "os-reset_status" | "os-update_snapshot_status" => {
            let schema = object().required("status", Schema::string(1, 255)).optional("progress", Schema::text(PERCENT).or_null());
            Schema::from(schema).check_body(content, cx.version)?;
            let word = content["status"].as_str().unwrap_or_default().to_lowercase();
            if !STATES.contains(&word.as_str()) {
                return Err(Fault::bad_request(format!("Must specify a valid status, not '{word}'.")));
            }
            Some(word)
        }
        "os-force_delete" => None,
        other => return Err(Fault::bad_request(format!("There is no such action: {other}"))),
    };
    let rule = match said {
        true => "snapshot_extension:snapshot_actions:update_snapshot_status".to_owned(),
        false => format!("volume_extension:snapshot_admin_actions:{}", name.trim_start_matches("os-")),
    };
    if !said {
        cx.require_admin(&rule)?;
    }
    let progress = content["progress"].as_str().map(str::to_owned);
    let (call, id) = (cx.clone(), cx.id::<Snapshot>());
    cx.store()
        .transact(move |tx: &mut Tx| {
            call.find_to_change::<Snapshot>(tx, &rule)?;
            let Some(word) = &word else { return Ok::<_, Fault>(verbs::delete_snapshot(tx, &id, true)?) };
            let (word, progress, view) = (word.clone(), progress.clone(), tx.view());
            tx.update(&id, |snapshot: &mut Snapshot| {
                snapshot.reset = None;
                snapshot.reset = (verbs::snapshot_state(&view, snapshot) != word).then_some(word);
                snapshot.progress = progress;
                Ok(())
            })
            .map(drop)
        })
        .await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
