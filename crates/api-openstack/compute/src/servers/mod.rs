//! Servers: their life, their actions and what hangs on them.

mod actions;
mod addresses;
mod around;
mod availability;
mod console;
mod create;
mod cx;
mod delete;
mod disks;
mod filter;
#[cfg(test)]
mod fixture;
mod images;
mod instance_actions;
mod interfaces;
mod list;
mod metadata;
mod migrations;
mod password;
mod perform;
mod ports;
mod renderer;
mod schemas;
mod show;
mod snapshot;
mod sort;
mod state;
mod tags;
#[cfg(test)]
mod tests;
mod update;
mod view;
mod volume_image;
mod volumes;

use unkai_openstack::{Cloud, Routes};

pub fn routes(_: &Cloud) -> Routes {
    Routes::new()
        .get("/v2.1/servers", list::index)
        .post("/v2.1/servers", create::create)
        .get("/v2.1/servers/detail", list::detail)
        .get("/v2.1/servers/{id}", show::show)
        .put("/v2.1/servers/{id}", update::update)
        .delete("/v2.1/servers/{id}", delete::delete)
        .post("/v2.1/servers/{id}/action", actions::action)
        .get("/v2.1/servers/{id}/metadata", metadata::index)
        .put("/v2.1/servers/{id}/metadata", metadata::replace)
        .post("/v2.1/servers/{id}/metadata", metadata::merge)
        .get("/v2.1/servers/{id}/metadata/{key}", metadata::show)
        .put("/v2.1/servers/{id}/metadata/{key}", metadata::set)
        .delete("/v2.1/servers/{id}/metadata/{key}", metadata::delete)
        .get("/v2.1/servers/{id}/tags", tags::index)
        .put("/v2.1/servers/{id}/tags", tags::replace)
        .delete("/v2.1/servers/{id}/tags", tags::clear)
        .get("/v2.1/servers/{id}/tags/{tag}", tags::show)
        .put("/v2.1/servers/{id}/tags/{tag}", tags::add)
        .delete("/v2.1/servers/{id}/tags/{tag}", tags::delete)
        .get("/v2.1/servers/{id}/os-interface", interfaces::index)
        .post("/v2.1/servers/{id}/os-interface", interfaces::attach)
        .get("/v2.1/servers/{id}/os-interface/{port}", interfaces::show)
        .delete("/v2.1/servers/{id}/os-interface/{port}", interfaces::detach)
        .get("/v2.1/servers/{id}/os-instance-actions", instance_actions::index)
        .get("/v2.1/servers/{id}/os-instance-actions/{request}", instance_actions::show)
        .get("/v2.1/servers/{id}/os-security-groups", actions::list_groups)
        .get("/v2.1/servers/{id}/ips", around::ips)
        .get("/v2.1/servers/{id}/ips/{network}", around::ips_of)
        .get("/v2.1/servers/{id}/os-volume_attachments", volumes::index)
        .post("/v2.1/servers/{id}/os-volume_attachments", volumes::attach)
        .get("/v2.1/servers/{id}/os-volume_attachments/{volume}", volumes::show)
        .put("/v2.1/servers/{id}/os-volume_attachments/{volume}", volumes::update)
        .delete("/v2.1/servers/{id}/os-volume_attachments/{volume}", volumes::detach)
        .get("/v2.1/servers/{id}/shares", around::shares)
        .post("/v2.1/servers/{id}/shares", around::attach_share)
        .get("/v2.1/servers/{id}/shares/{share}", around::no_share)
        .delete("/v2.1/servers/{id}/shares/{share}", around::no_share)
        .get("/v2.1/servers/{id}/migrations", migrations::index)
        .get("/v2.1/servers/{id}/migrations/{migration}", migrations::show)
        .delete("/v2.1/servers/{id}/migrations/{migration}", migrations::abort)
        .post("/v2.1/servers/{id}/migrations/{migration}/action", migrations::action)
        .get("/v2.1/servers/{id}/topology", around::topology)
        .get("/v2.1/servers/{id}/os-server-password", around::password)
        .delete("/v2.1/servers/{id}/os-server-password", around::clear_password)
        .get("/v2.1/servers/{id}/diagnostics", around::diagnostics)
        .post("/v2.1/servers/{id}/remote-consoles", console::remote)
        .get("/v2.1/os-console-auth-tokens/{token}", console::show_token)
        .get("/v2.1/images", images::index)
        .get("/v2.1/images/detail", images::detail)
        .get("/v2.1/images/{id}", images::show)
        .delete("/v2.1/images/{id}", images::delete)
        .get("/v2.1/images/{id}/metadata", images::metadata)
        .put("/v2.1/images/{id}/metadata", images::replace_metadata)
        .post("/v2.1/images/{id}/metadata", images::merge_metadata)
        .get("/v2.1/images/{id}/metadata/{key}", images::metadata_item)
        .put("/v2.1/images/{id}/metadata/{key}", images::set_metadata_item)
        .delete("/v2.1/images/{id}/metadata/{key}", images::delete_metadata_item)
}

/// Reached without a token of identity: a console's own token is in the query.
pub fn console_routes() -> Routes {
    Routes::new().public_get("/", console::page).public_get("/websockify", console::websocket)
}
