//! The catalog as a token shows it: enabled endpoints of enabled services, with the project and user filled into their URLs.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use unkai_model::Id;
use unkai_model::identity::{Endpoint, EndpointAssociation, EndpointGroup, Filtered, Project, Service};
use unkai_store::View;

pub fn catalog(view: &View, user: &str, project: Option<&Id<Project>>) -> Value {
    let shown = project.and_then(|project| chosen(view, project));
    let services = view.all::<Service>().filter(|service| service.enabled).map(|service| {
        let endpoints = view
            .by_index::<Endpoint>("service", service.meta.id.as_str())
            .filter(|endpoint| endpoint.enabled && shown.as_ref().is_none_or(|shown| shown.contains(&endpoint.meta.id)));
        let endpoints: Vec<Value> = endpoints.filter_map(|endpoint| render(&endpoint, user, project)).collect();
        json!({"id": service.meta.id, "type": service.r#type, "name": service.meta.name, "endpoints": endpoints})
    });
    services.collect()
}

fn render(endpoint: &Endpoint, user: &str, project: Option<&Id<Project>>) -> Option<Value> {
    let url = fill(&endpoint.url, user, project.map(Id::as_str))?;
    Some(json!({
        "id": endpoint.meta.id, "interface": endpoint.interface, "region_id": endpoint.region, "region": endpoint.region, "url": url,
    }))
}

/// None when the URL needs a project and there is none, as the original leaves such endpoints out.
fn fill(url: &str, user: &str, project: Option<&str>) -> Option<String> {
    let mut out = url.to_owned();
    for (name, value) in [("project_id", project), ("tenant_id", project), ("user_id", Some(user))] {
        for form in [format!("$({name})s"), format!("%({name})s")] {
            if out.contains(&form) {
                out = out.replace(&form, value?);
            }
        }
    }
    Some(out)
}

/// The endpoints chosen for a project; none when nothing was chosen, and then it sees all.
pub fn chosen(view: &View, project: &Id<Project>) -> Option<BTreeSet<Id<Endpoint>>> {
    let mut associations = view.by_index::<EndpointAssociation>("project", project.as_str()).peekable();
    associations.peek()?;
    let mut shown = BTreeSet::new();
    for association in associations {
        match &association.what {
            Filtered::Endpoint(id) => {
                shown.insert(id.clone());
            }
            Filtered::Group(id) => {
                let members = view.get(id).map(|group| members(view, &group)).unwrap_or_default();
                shown.extend(members.into_iter().map(|endpoint| endpoint.meta.id.clone()));
            }
        }
    }
    Some(shown)
}

/// The endpoints that a group's filters choose.
pub fn members(view: &View, group: &EndpointGroup) -> Vec<Arc<Endpoint>> {
    let is = |name: &str, value: Option<&str>| group.filters.get(name).is_none_or(|wanted| wanted.as_str() == value);
    let enabled = |endpoint: &Endpoint| group.filters.get("enabled").is_none_or(|wanted| wanted.as_bool() == Some(endpoint.enabled));
    view.all::<Endpoint>()
        .filter(|endpoint| {
            is("service_id", Some(endpoint.service.as_str()))
                && is("region_id", endpoint.region.as_ref().map(Id::as_str))
                && is("interface", Some(endpoint.interface.as_str()))
                && enabled(endpoint)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn urls_are_filled_or_left_out() {
        assert_eq!(fill("http://x/%(tenant_id)s/$(user_id)s", "u", Some("p")).unwrap(), "http://x/p/u");
        assert_eq!(fill("http://x/$(project_id)s", "u", None), None);
        assert_eq!(fill("http://x", "u", None).unwrap(), "http://x");
    }
}
