use unkai_openstack::Routes;

pub fn routes() -> Routes {
    Routes::new()
}
