//! Servers: their life, their actions and what hangs on them.

mod addresses;
mod create;
mod cx;
mod delete;
mod filter;
#[cfg(test)]
mod fixture;
mod list;
mod password;
mod perform;
mod ports;
mod schemas;
mod show;
mod sort;
mod state;
#[cfg(test)]
mod tests;
mod update;
mod view;

use unkai_openstack::{Cloud, Routes};

pub fn routes(_: &Cloud) -> Routes {
    Routes::new()
        .get("/v2.1/servers", list::index)
        .post("/v2.1/servers", create::create)
        .get("/v2.1/servers/detail", list::detail)
        .get("/v2.1/servers/{id}", show::show)
        .put("/v2.1/servers/{id}", update::update)
        .delete("/v2.1/servers/{id}", delete::delete)
}
