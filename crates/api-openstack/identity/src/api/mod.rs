//! The routes, one file per collection.

mod assignments;
mod auth;
mod domains;
mod grants;
mod groups;
mod login;
mod projects;
mod roles;
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
    ];
    all.into_iter().fold(Routes::new(), Routes::merge)
}
