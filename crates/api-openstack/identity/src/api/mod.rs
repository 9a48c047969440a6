//! The routes, one file per collection.

mod auth;
mod domains;
mod login;
mod projects;
mod versions;

use unkai_openstack::Routes;

pub fn routes() -> Routes {
    Routes::new().merge(versions::routes()).merge(login::routes()).merge(auth::routes())
}
