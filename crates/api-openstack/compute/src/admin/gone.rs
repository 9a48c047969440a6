//! What the original had once and refuses now, in the way it refuses it.

use unkai_openstack::{Caller, Routes};

use crate::Fault;

const GONE: [&str; 9] = [
    "/v2.1/os-agents",
    "/v2.1/os-cells",
    "/v2.1/os-certificates",
    "/v2.1/os-cloudpipe",
    "/v2.1/os-fixed-ips",
    "/v2.1/os-floating-ip-dns",
    "/v2.1/os-floating-ips-bulk",
    "/v2.1/os-fping",
    "/v2.1/os-security-group-default-rules",
];

pub fn routes() -> Routes {
    let routes = Routes::new().get("/v2.1/servers/{id}/os-virtual-interfaces", removed);
    GONE.iter().fold(routes, |routes, path| {
        let one = format!("{path}/{{id}}");
        routes.get(path, removed).post(path, removed).get(&one, removed).put(&one, removed).delete(&one, removed)
    })
}

async fn removed(_: Caller) -> Fault {
    Fault::new(http::StatusCode::GONE, "This resource has been removed.")
}
