//! Servers: their life, their actions and what hangs on them.

use unkai_openstack::{Cloud, Routes};

pub fn routes(_: &Cloud) -> Routes {
    Routes::new()
}
