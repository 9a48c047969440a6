//! Which images a list shows, and in which order. Pure.

use std::cmp::Ordering;
use std::sync::Arc;

use unkai_model::Timestamp;
use unkai_model::image::{Image, Visibility};
use unkai_openstack::CallerName;

use super::query::{Comparison, Direction, Filter, Query, Shown, SortKey};

/// Whether the list of this caller holds the image, before its filters.
pub fn is_listed(caller: &CallerName, query: &Query, image: &Image) -> bool {
    let own = caller.owns(image.meta.project.as_ref());
    let visibility = image.spec.visibility;
    let reachable = caller.is_admin()
        || own
        || matches!(visibility, Visibility::Public | Visibility::Community)
        || (visibility == Visibility::Shared && is_member(caller, query, image));
    let shown = match query.visibility {
        Shown::All => true,
        Shown::Only(wanted) => visibility == wanted,
        Shown::Usual => own || visibility != Visibility::Community,
    };
    reachable && shown && image.spec.hidden == query.hidden
}

fn is_member(caller: &CallerName, query: &Query, image: &Image) -> bool {
    let member = caller.project.as_ref().and_then(|project| image.spec.members.get(project));
    member.is_some_and(|member| query.member_status.is_none_or(|wanted| member.status == wanted))
}

/// Whether all filters hold.
pub fn matches(filters: &[Filter], image: &Image) -> bool {
    filters.iter().all(|filter| holds(filter, image))
}

fn holds(filter: &Filter, image: &Image) -> bool {
    match filter {
        Filter::Text(field, wanted) => text(field, image).is_some_and(|value| wanted.iter().any(|one| one == value)),
        Filter::Range(field, least, most) => {
            number(field, image).is_some_and(|value| least.is_none_or(|least| value >= least) && most.is_none_or(|most| value <= most))
        }
        Filter::Time(field, comparison, wanted) => {
            let time = if *field == "created_at" { image.meta.created } else { image.meta.updated };
            compares(*comparison, seconds(time).cmp(&seconds(*wanted)))
        }
        Filter::Protected(wanted) => image.spec.protected == *wanted,
        Filter::Tag(tag) => image.spec.tags.contains(tag),
        Filter::Property(name, value) => image.spec.properties.get(name) == Some(value),
    }
}

fn text<'a>(field: &str, image: &'a Image) -> Option<&'a str> {
    let content = image.status.content.as_ref();
    match field {
        "name" => Some(image.meta.name.as_str()).filter(|name| !name.is_empty()),
        "id" => Some(image.meta.id.as_str()),
        "status" => Some(image.status.state.as_str()),
        "container_format" => image.spec.container_format.map(|format| format.as_str()),
        "disk_format" => image.spec.disk_format.map(|format| format.as_str()),
        "owner" => image.meta.project.as_ref().map(|project| project.as_str()),
        "checksum" => content.map(|content| content.md5.as_str()),
        "os_hash_value" => content.map(|content| content.sha512.as_str()),
        "os_hash_algo" => content.map(|_| "sha512"),
        _ => None,
    }
}

fn number(field: &str, image: &Image) -> Option<i64> {
    let content = image.status.content.as_ref();
    let value = match field {
        "size" => image.size()?,
        "virtual_size" => content?.virtual_size?,
        "min_ram" => image.spec.min_ram_mib,
        "min_disk" => image.spec.min_disk_gib,
        _ => return None,
    };
    i64::try_from(value).ok()
}

/// Times are compared as they are shown.
fn seconds(time: Timestamp) -> i64 {
    time.as_second()
}

fn compares(comparison: Comparison, order: Ordering) -> bool {
    match comparison {
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::GreaterOrEqual => order.is_ge(),
        Comparison::Greater => order.is_gt(),
    }
}

/// The order of a list: its sort keys, then time and id, so that it is total and pages do not overlap.
pub fn order(sort: &[(SortKey, Direction)], a: &Image, b: &Image) -> Ordering {
    let last = sort.first().map_or(Direction::Descending, |(_, direction)| *direction);
    let ties = [(SortKey::Created, last), (SortKey::Id, last)];
    sort.iter().chain(&ties).fold(Ordering::Equal, |order, (key, direction)| {
        order.then_with(|| match direction {
            Direction::Ascending => compare(*key, a, b),
            Direction::Descending => compare(*key, b, a),
        })
    })
}

fn compare(key: SortKey, a: &Image, b: &Image) -> Ordering {
    match key {
        SortKey::Name => text("name", a).cmp(&text("name", b)),
        SortKey::Status => text("status", a).cmp(&text("status", b)),
        SortKey::ContainerFormat => text("container_format", a).cmp(&text("container_format", b)),
        SortKey::DiskFormat => text("disk_format", a).cmp(&text("disk_format", b)),
        SortKey::Size => number("size", a).cmp(&number("size", b)),
        SortKey::Id => a.meta.id.cmp(&b.meta.id),
        SortKey::Created => a.meta.created.cmp(&b.meta.created),
        SortKey::Updated => a.meta.updated.cmp(&b.meta.updated),
    }
}

/// The images after the marker, at most `limit`, and whether there are more.
pub fn page(sorted: Vec<Arc<Image>>, after: Option<(&Image, &[(SortKey, Direction)])>, limit: usize) -> (Vec<Arc<Image>>, bool) {
    let start = after.map_or(0, |(marker, sort)| sorted.partition_point(|image| order(sort, image, marker).is_le()));
    let more = sorted.len() - start > limit;
    (sorted.into_iter().skip(start).take(limit).collect(), more)
}
