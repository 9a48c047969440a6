//! Lists of flavors: filters, order, pages.

use std::cmp::Ordering;
use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use unkai_model::compute::Flavor;
use unkai_openstack::{Caller, CallerName, Cloud};
use unkai_store::View;

use super::render::Style;
use crate::admin::page::{self, Link, QuerySchema};
use crate::query::{Query, truth};
use crate::schema::{Schema, object};
use crate::{Fault, Microversion};

static QUERY: LazyLock<QuerySchema> = LazyLock::new(|| {
    let text = || Schema::string(0, usize::MAX).many();
    QuerySchema::new(
        object()
            .optional("limit", Schema::count().many())
            .optional("marker", text())
            .optional("is_public", text())
            .optional("minRam", text())
            .optional("minDisk", text())
            .optional("sort_key", Schema::one_of(SORT_KEYS).many())
            .optional("sort_dir", Schema::one_of(["asc", "desc"]).many()),
    )
});

const SORT_KEYS: [&str; 15] = [
    "created_at",
    "description",
    "disabled",
    "ephemeral_gb",
    "flavorid",
    "id",
    "is_public",
    "memory_mb",
    "name",
    "root_gb",
    "rxtx_factor",
    "swap",
    "updated_at",
    "vcpu_weight",
    "vcpus",
];

#[derive(Serialize)]
pub struct Flavors<T> {
    flavors: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flavors_links: Option<Vec<Link>>,
}

pub async fn index(State(cloud): State<Cloud>, caller: Caller, version: Microversion, query: Query) -> Result<Response, Fault> {
    let found = select(&cloud.store.read().await?, &caller, version, &query)?;
    let style = Style::new(&cloud, &caller, version);
    Ok(answer(&cloud, "flavors", &query, &found, |flavor| style.brief(flavor)))
}

pub async fn detail(State(cloud): State<Cloud>, caller: Caller, version: Microversion, query: Query) -> Result<Response, Fault> {
    let found = select(&cloud.store.read().await?, &caller, version, &query)?;
    let style = Style::new(&cloud, &caller, version);
    Ok(answer(&cloud, "flavors/detail", &query, &found, |flavor| style.full(flavor)))
}

fn answer<'a, T: Serialize>(
    cloud: &Cloud,
    path: &str,
    query: &Query,
    found: &'a [Arc<Flavor>],
    render: impl Fn(&'a Flavor) -> T,
) -> Response {
    let last = found.last().map(|flavor| flavor.meta.id.as_str());
    let flavors_links = page::next(cloud, path, query, found.len(), last);
    Json(Flavors { flavors: found.iter().map(|f| render(f)).collect(), flavors_links }).into_response()
}

fn select(view: &View, caller: &CallerName, version: Microversion, query: &Query) -> Result<Vec<Arc<Flavor>>, Fault> {
    QUERY.check(query, version)?;
    let filter = Filter::parse(query, caller)?;
    let mut found: Vec<_> = view.all::<Flavor>().filter(|flavor| filter.accepts(flavor, caller)).collect();
    let key = query.get("sort_key").unwrap_or("flavorid");
    let reverse = query.get("sort_dir") == Some("desc");
    found.sort_by(|a, b| {
        let order = compare(key, a, b).then_with(|| a.meta.id.cmp(&b.meta.id));
        if reverse { order.reverse() } else { order }
    });
    page::cut(found, query, |flavor| flavor.meta.id.as_str(), |marker| format!("marker [{marker}] not found"))
}

struct Filter {
    public: Option<bool>,
    min_ram: Option<i64>,
    min_disk: Option<i64>,
}

impl Filter {
    fn parse(query: &Query, caller: &CallerName) -> Result<Self, Fault> {
        let number = |name: &str| match query.get(name) {
            None => Ok(None),
            Some(text) => text.trim().parse::<i64>().map(Some).map_err(|_| Fault::bad_request(format!("Invalid {name} filter [{text}]"))),
        };
        Ok(Filter {
            public: if caller.is_admin() { publicity(query.get("is_public"))? } else { Some(true) },
            min_ram: number("minRam")?,
            min_disk: number("minDisk")?,
        })
    }

    fn accepts(&self, flavor: &Flavor, caller: &CallerName) -> bool {
        let publicity = match self.public {
            None => true,
            Some(true) => flavor.is_visible_to(caller.project.as_ref()),
            Some(false) => !flavor.public,
        };
        publicity
            && self.min_ram.is_none_or(|min| flavor.ram_mib as i64 >= min)
            && self.min_disk.is_none_or(|min| flavor.disk_gib as i64 >= min)
    }
}

/// `is_public` of an administrator: absent means public ones, `None` means all.
fn publicity(text: Option<&str>) -> Result<Option<bool>, Fault> {
    match text {
        None => Ok(Some(true)),
        Some(text) if text.eq_ignore_ascii_case("none") => Ok(None),
        Some(text) => truth(text).map(Some).ok_or_else(|| Fault::bad_request(format!("Invalid is_public filter [{text}]"))),
    }
}

fn compare(key: &str, a: &Flavor, b: &Flavor) -> Ordering {
    match key {
        "name" => a.meta.name.cmp(&b.meta.name),
        "memory_mb" => a.ram_mib.cmp(&b.ram_mib),
        "root_gb" => a.disk_gib.cmp(&b.disk_gib),
        "ephemeral_gb" => a.ephemeral_gib.cmp(&b.ephemeral_gib),
        "swap" => a.swap_mib.cmp(&b.swap_mib),
        "vcpus" => a.vcpus.cmp(&b.vcpus),
        "rxtx_factor" => a.rxtx_factor.total_cmp(&b.rxtx_factor),
        "is_public" => a.public.cmp(&b.public),
        "description" => a.description.cmp(&b.description),
        "created_at" | "id" => a.meta.created.cmp(&b.meta.created),
        "updated_at" => a.meta.updated.cmp(&b.meta.updated),
        _ => a.meta.id.cmp(&b.meta.id),
    }
}
