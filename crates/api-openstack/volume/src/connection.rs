//! How somebody outside of this cloud's hosts reaches a volume, in the form that such clients know.

use serde_json::{Value, json};
use unkai_model::volume::{Backend, Volume};
use unkai_openstack::web::Fault;
use unkai_store::View;

/// Refused for pools that only hosts of this cloud reach.
pub fn info(view: &View, volume: &Volume) -> Result<Value, Fault> {
    let id = &volume.meta.id;
    let pool = volume.status.pool.as_ref().and_then(|id| view.get(id));
    let pool = pool.ok_or_else(|| Fault::bad_request(format!("Invalid volume: Volume {id} is in no pool yet.")))?;
    match &pool.backend {
        Backend::Rbd { monitors, pool, user, .. } => {
            let split = |monitor: &String| {
                monitor.rsplit_once(':').map_or((monitor.clone(), "6789".to_owned()), |(host, port)| (host.into(), port.into()))
            };
            let (hosts, ports): (Vec<String>, Vec<String>) = monitors.iter().map(split).unzip();
            Ok(json!({
                "driver_volume_type": "rbd",
                "data": {
                    "name": format!("{pool}/{id}"), "hosts": hosts, "ports": ports, "auth_enabled": true, "auth_username": user,
                    "secret_type": "ceph", "volume_id": id, "discard": true, "access_mode": if volume.spec.read_only { "ro" } else { "rw" },
                    "encrypted": volume.spec.key.is_some(),
                },
            }))
        }
        other => Err(Fault::bad_request(format!(
            "Invalid volume: Volume {id} is in a pool of {}, which only hosts of this cloud reach.",
            other.driver()
        ))),
    }
}
