//! `/routers`, and their actions on interfaces and static routes.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};
use unkai_model::Id;
use unkai_model::network::{Network, Port, Route, Router, Standard, Subnet};
use unkai_openstack::{Caller, CallerName, Cloud, Routes};
use unkai_store::Tx;

use crate::Refusal;
use crate::fields::{Fields, invalid, is_uuid, shown, to_flag};
use crate::object::Object;
use crate::port_bodies::to_fixed_ips;
use crate::query::Query;
use crate::resource::{Cx, Resource, answer, body, inner, owned, visible_in};
use crate::subnets::{owns_network, read_routes, routes as shown_routes};
use crate::verbs::{self, GatewayWish, Interface, InterfaceWish, RouterRequest};
use crate::zones::{self, Zone};

/// What may be changed; none: stays.
#[derive(Debug, Clone, Default)]
pub struct RouterChange {
    name: Option<String>,
    description: Option<String>,
    admin_up: Option<bool>,
    gateway: Option<Option<GatewayWish>>,
    routes: Option<Vec<Route>>,
}

impl Resource for Router {
    const ONE: &'static str = "router";
    const MANY: &'static str = "routers";
    const PATH: &'static str = "routers";
    const FIXED: &'static [&'static str] = &["availability_zones"];
    const ONCE: &'static [&'static str] = &["availability_zone_hints"];

    type New = RouterRequest;
    type Change = RouterChange;

    fn visible(&self, cx: &Cx) -> bool {
        cx.who.may_read(self.meta.project.as_ref())
    }

    fn candidates(cx: &Cx, query: &Query) -> Vec<Arc<Self>> {
        owned(cx, query)
    }

    fn render(&self, cx: &Cx, out: &mut Object) {
        out.head(&self.meta);
        out.put("admin_state_up", || self.admin_up);
        out.put("status", || "ACTIVE");
        out.put("external_gateway_info", || gateway(cx, self));
        out.put("routes", || shown_routes(&self.routes));
        out.put("availability_zone_hints", || self.availability_zone_hints.clone());
        out.put("availability_zones", || zones::names(cx.view, Zone::Router));
        out.tail(&self.meta, &self.standard);
    }

    fn read_new(fields: &mut Fields, who: &CallerName) -> Result<RouterRequest, Refusal> {
        let owner = fields.owner(who)?;
        Ok(RouterRequest {
            project: Some(owner),
            name: fields.name()?.unwrap_or_default(),
            standard: Standard { description: fields.description()?.unwrap_or_default(), ..Standard::default() },
            admin_up: fields.flag("admin_state_up")?.unwrap_or(true),
            gateway: read_gateway(fields, who, "create_router")?.flatten(),
            availability_zone_hints: fields.strings("availability_zone_hints")?.unwrap_or_default(),
        })
    }

    fn create(tx: &mut Tx, who: &CallerName, new: &RouterRequest) -> Result<Id<Self>, Refusal> {
        zones::check_hints(&tx.view(), Zone::Router, &new.availability_zone_hints)?;
        check_gateway(tx, who, new.gateway.as_ref())?;
        Ok(verbs::create_router(tx, new)?.meta.id.clone())
    }

    fn read_change(fields: &mut Fields, who: &CallerName) -> Result<RouterChange, Refusal> {
        Ok(RouterChange {
            name: fields.name()?,
            description: fields.description()?,
            admin_up: fields.flag("admin_state_up")?,
            gateway: read_gateway(fields, who, "update_router")?,
            routes: read_routes(fields, "routes")?,
        })
    }

    fn change(tx: &mut Tx, who: &CallerName, id: &Id<Self>, change: &RouterChange) -> Result<(), Refusal> {
        if let Some(gateway) = &change.gateway {
            check_gateway(tx, who, gateway.as_ref())?;
            verbs::set_gateway(tx, id, gateway.as_ref())?;
        }
        if let Some(routes) = &change.routes {
            verbs::set_routes(tx, id, routes)?;
        }
        let change = change.clone();
        tx.update(id, |router: &mut Router| {
            router.meta.name = change.name.unwrap_or_else(|| router.meta.name.clone());
            router.standard.description = change.description.unwrap_or_else(|| router.standard.description.clone());
            router.admin_up = change.admin_up.unwrap_or(router.admin_up);
            router.meta.generation += 1;
            Ok::<_, Refusal>(())
        })?;
        Ok(())
    }

    fn remove(tx: &mut Tx, _: &CallerName, id: &Id<Self>) -> Result<(), Refusal> {
        verbs::delete_router(tx, id)
    }
}

fn gateway(cx: &Cx, router: &Router) -> Value {
    let Some(gateway) = &router.gateway else { return Value::Null };
    let port = cx.view.get(&gateway.port);
    let fixed: Vec<Value> = port
        .iter()
        .flat_map(|p| &p.fixed_ips)
        .map(|ip| json!({"subnet_id": ip.subnet.as_str(), "ip_address": ip.address.to_string()}))
        .collect();
    json!({"network_id": gateway.network.as_str(), "enable_snat": gateway.snat, "external_fixed_ips": fixed})
}

/// Some(None): the gateway is to be taken away, which an empty object says as well as null.
fn read_gateway(fields: &mut Fields, who: &CallerName, action: &str) -> Result<Option<Option<GatewayWish>>, Refusal> {
    const NAME: &str = "external_gateway_info";
    let map = match fields.take(NAME) {
        None => return Ok(None),
        Some(Value::Null) => return Ok(Some(None)),
        Some(Value::Object(map)) if map.is_empty() => return Ok(Some(None)),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(invalid(NAME, format!("'{}' is not a dictionary", shown(&other)))),
    };
    if let Some(unknown) = map.keys().find(|k| !matches!(k.as_str(), "network_id" | "enable_snat" | "external_fixed_ips")) {
        return Err(invalid(NAME, format!("Invalid data format for {NAME}: unknown key '{unknown}'")));
    }
    for (key, rule) in [("enable_snat", "enable_snat"), ("external_fixed_ips", "external_fixed_ips")] {
        if map.get(key).is_some_and(|v| !v.is_null()) && !who.is_admin() {
            return Err(Refusal::policy(format!("{action}:{NAME}:{rule}")));
        }
    }
    let network = match map.get("network_id") {
        Some(Value::String(text)) if is_uuid(text) => Id::new(text.as_str()),
        Some(Value::Null) => return Ok(Some(None)),
        Some(other) => return Err(invalid(NAME, format!("'{}' is not a valid UUID", shown(other)))),
        None => return Err(invalid(NAME, "Validation of dictionary's keys failed. Expected keys: network_id")),
    };
    let fixed_ips = match map.get("external_fixed_ips") {
        Some(Value::Array(items)) => Some(to_fixed_ips(items, NAME)?),
        Some(Value::Null) | None => None,
        Some(other) => return Err(invalid(NAME, format!("Invalid data format for fixed IP: '{}'", shown(other)))),
    };
    let snat = map.get("enable_snat").filter(|v| !v.is_null()).map(to_flag).transpose()?;
    Ok(Some(Some(GatewayWish { network, snat, fixed_ips })))
}

fn check_gateway(tx: &Tx, who: &CallerName, wish: Option<&GatewayWish>) -> Result<(), Refusal> {
    wish.map_or(Ok(()), |wish| visible_in::<Network>(tx, who, &wish.network).map(|_| ()))
}

pub fn routes() -> Routes {
    Routes::new()
        .put("/v2.0/routers/{id}/add_router_interface", add_interface)
        .put("/v2.0/routers/{id}/remove_router_interface", remove_interface)
        .put("/v2.0/routers/{id}/add_extraroutes", add_routes)
        .put("/v2.0/routers/{id}/remove_extraroutes", remove_routes)
}

/// A router that the caller may change, in a transaction.
fn changeable(tx: &Tx, who: &CallerName, id: &Id<Router>, action: &str) -> Result<Arc<Router>, Refusal> {
    let router = visible_in(tx, who, id)?;
    if who.may_write(router.meta.project.as_ref()) { Ok(router) } else { Err(Refusal::policy(action)) }
}

fn bad(text: &str) -> Refusal {
    Refusal::bad("BadRequest", format!("Bad router request: {text}."))
}

/// The ids in the body of an interface action.
type Named = (Option<Id<Port>>, Option<Id<Subnet>>);

fn read_interface(bytes: &Bytes) -> Result<Named, Refusal> {
    let map: Map<String, Value> = body(bytes)?;
    let id = |name: &str| match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if is_uuid(text) => Ok(Some(text.clone())),
        Some(other) => Err(Refusal::input(format!("'{}' is not a valid UUID", shown(other)))),
    };
    Ok((id("port_id")?.map(Id::new), id("subnet_id")?.map(Id::new)))
}

async fn add_interface(State(cloud): State<Cloud>, Caller(who): Caller, Path(id): Path<String>, bytes: Bytes) -> Result<Response, Refusal> {
    let id = Id::<Router>::new(id);
    let wish = match read_interface(&bytes)? {
        (Some(_), Some(_)) => return Err(bad("Cannot specify both subnet-id and port-id")),
        (Some(port), None) => InterfaceWish::Port(port),
        (None, Some(subnet)) => InterfaceWish::Subnet(subnet),
        (None, None) => return Err(bad("Either subnet_id or port_id must be specified")),
    };
    let added = cloud.store.transact(move |tx| {
        let router = changeable(tx, &who, &id, "add_router_interface")?;
        let interface = verbs::add_interface(tx, &id, &permitted(tx, &who, &wish)?)?;
        Ok::<_, Refusal>(rendered(&router, &interface))
    });
    Ok(answer(StatusCode::OK, &added.await?))
}

/// What is named must be visible; the gateway of a network is for who owns it.
fn permitted(tx: &Tx, who: &CallerName, wish: &InterfaceWish) -> Result<InterfaceWish, Refusal> {
    if let InterfaceWish::Port(port) = wish {
        visible_in::<Port>(tx, who, port)?;
    }
    if let InterfaceWish::Subnet(subnet) = wish {
        let network = &visible_in::<Subnet>(tx, who, subnet)?.network;
        if !who.is_admin() && !owns_network(&Cx { view: &tx.view(), who }, network) {
            return Ok(InterfaceWish::Member(subnet.clone()));
        }
    }
    Ok(wish.clone())
}

async fn remove_interface(
    State(cloud): State<Cloud>,
    Caller(who): Caller,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Result<Response, Refusal> {
    let id = Id::<Router>::new(id);
    let wish = match read_interface(&bytes)? {
        (Some(port), Some(subnet)) => InterfaceWish::Both(port, subnet),
        (Some(port), None) => InterfaceWish::Port(port),
        (None, Some(subnet)) => InterfaceWish::Subnet(subnet),
        (None, None) => return Err(bad("Either subnet_id or port_id must be specified")),
    };
    let removed = cloud.store.transact(move |tx| {
        let router = changeable(tx, &who, &id, "remove_router_interface")?;
        let interface = verbs::remove_interface(tx, &id, &wish)?;
        Ok::<_, Refusal>(rendered(&router, &interface))
    });
    Ok(answer(StatusCode::OK, &removed.await?))
}

fn rendered(router: &Router, interface: &Interface) -> Value {
    let project = interface.project.as_ref().map_or("", |p| p.as_str());
    json!({
        "id": router.meta.id.as_str(),
        "tenant_id": project,
        "project_id": project,
        "port_id": interface.port.as_str(),
        "network_id": interface.network.as_str(),
        "subnet_id": interface.subnets.first().map(|s| s.as_str()),
        "subnet_ids": interface.subnets.iter().map(|s| s.as_str()).collect::<Vec<_>>(),
        "tags": [],
    })
}

async fn add_routes(cloud: State<Cloud>, caller: Caller, id: Path<String>, bytes: Bytes) -> Result<Response, Refusal> {
    change_routes(cloud, caller, id, bytes, |present, given| {
        present.retain(|route| !given.contains(route));
        present.extend(given);
    })
    .await
}

async fn remove_routes(cloud: State<Cloud>, caller: Caller, id: Path<String>, bytes: Bytes) -> Result<Response, Refusal> {
    change_routes(cloud, caller, id, bytes, |present, given| present.retain(|route| !given.contains(route))).await
}

async fn change_routes(
    State(cloud): State<Cloud>,
    Caller(who): Caller,
    Path(id): Path<String>,
    bytes: Bytes,
    change: impl Fn(&mut Vec<Route>, Vec<Route>) + Send + 'static,
) -> Result<Response, Refusal> {
    let id = Id::<Router>::new(id);
    let mut fields = Fields::new(inner(&bytes, "router")?, false);
    let given = read_routes(&mut fields, "routes")?.unwrap_or_default();
    fields.finish(&[])?;
    let changed = cloud.store.transact(move |tx| {
        let router = changeable(tx, &who, &id, "update_router:routes")?;
        let mut routes = router.routes.clone();
        change(&mut routes, given.clone());
        let router = verbs::set_routes(tx, &id, &routes)?;
        let mut object = Object::of(None);
        router.render(&Cx { view: &tx.view(), who: &who }, &mut object);
        Ok::<_, Refusal>(json!({"router": object.into_value()}))
    });
    Ok(answer(StatusCode::OK, &changed.await?))
}
