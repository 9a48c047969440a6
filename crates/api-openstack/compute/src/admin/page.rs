//! Links of resources and to the next page.

use unkai_openstack::Cloud;
pub use unkai_openstack::web::page::{Link, QuerySchema, cut};

use crate::query::Query;

/// The `self` and `bookmark` links of one resource.
pub fn links(cloud: &Cloud, collection: &str, id: &str) -> Vec<Link> {
    let url = &cloud.url;
    vec![
        Link { rel: "self", href: format!("{url}/compute/v2.1/{collection}/{id}") },
        Link { rel: "bookmark", href: format!("{url}/compute/{collection}/{id}") },
    ]
}

/// The link to the next page: there is one when this page is full.
pub fn next(cloud: &Cloud, collection: &str, query: &Query, count: usize, last: Option<&str>) -> Option<Vec<Link>> {
    let last = last.filter(|_| query.limit().is_ok_and(|limit| count == limit))?;
    let href = format!("{}/compute/v2.1/{collection}?{}", cloud.url, query.with_marker(last));
    Some(vec![Link { rel: "next", href }])
}
