//! The routes, one file per collection.

mod app_credentials;
mod assignments;
mod auth;
mod credentials;
mod domain_config;
mod domains;
mod endpoint_filter;
mod endpoints;
mod grants;
mod groups;
mod login;
mod policies;
mod projects;
mod regions;
mod roles;
mod services;
mod tags;
mod users;
mod versions;

use unkai_openstack::Routes;

pub fn routes() -> Routes {
    let all = [
        versions::routes(),
        login::routes(),
        auth::routes(),
        domains::routes(),
        projects::routes(),
        tags::routes(),
        users::routes(),
        groups::routes(),
        roles::routes(),
        grants::routes(),
        assignments::routes(),
        services::routes(),
        endpoints::routes(),
        regions::routes(),
        app_credentials::routes(),
        credentials::routes(),
        policies::routes(),
        domain_config::routes(),
        endpoint_filter::routes(),
    ];
    all.into_iter().fold(Routes::new(), Routes::merge)
}
