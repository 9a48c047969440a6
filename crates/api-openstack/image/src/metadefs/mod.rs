//! Metadata definitions: `/v2/metadefs/...`.
//!
//! A namespace is one document with everything that is defined in it. Whoever has the reader role sees public namespaces and those of
//! his project; administrators define.

mod definitions;
mod namespaces;
mod objects;
mod properties;
mod resource_types;
pub mod schemas;
mod tags;
mod validate;

use unkai_openstack::Routes;

pub fn routes() -> Routes {
    namespace_routes().merge(property_routes()).merge(object_routes()).merge(tag_routes())
}

fn namespace_routes() -> Routes {
    Routes::new()
        .get("/v2/metadefs/resource_types", resource_types::known)
        .get("/v2/metadefs/namespaces", namespaces::list)
        .post("/v2/metadefs/namespaces", namespaces::create)
        .get("/v2/metadefs/namespaces/{namespace}", namespaces::show)
        .put("/v2/metadefs/namespaces/{namespace}", namespaces::update)
        .delete("/v2/metadefs/namespaces/{namespace}", namespaces::delete)
        .get("/v2/metadefs/namespaces/{namespace}/resource_types", resource_types::list)
        .post("/v2/metadefs/namespaces/{namespace}/resource_types", resource_types::create)
        .delete("/v2/metadefs/namespaces/{namespace}/resource_types/{type}", resource_types::delete)
}

fn property_routes() -> Routes {
    Routes::new()
        .get("/v2/metadefs/namespaces/{namespace}/properties", properties::list)
        .post("/v2/metadefs/namespaces/{namespace}/properties", properties::create)
        .delete("/v2/metadefs/namespaces/{namespace}/properties", properties::delete_all)
        .get("/v2/metadefs/namespaces/{namespace}/properties/{property}", properties::show)
        .put("/v2/metadefs/namespaces/{namespace}/properties/{property}", properties::update)
        .delete("/v2/metadefs/namespaces/{namespace}/properties/{property}", properties::delete)
}

fn object_routes() -> Routes {
    Routes::new()
        .get("/v2/metadefs/namespaces/{namespace}/objects", objects::list)
        .post("/v2/metadefs/namespaces/{namespace}/objects", objects::create)
        .delete("/v2/metadefs/namespaces/{namespace}/objects", objects::delete_all)
        .get("/v2/metadefs/namespaces/{namespace}/objects/{object}", objects::show)
        .put("/v2/metadefs/namespaces/{namespace}/objects/{object}", objects::update)
        .delete("/v2/metadefs/namespaces/{namespace}/objects/{object}", objects::delete)
}

fn tag_routes() -> Routes {
    Routes::new()
        .get("/v2/metadefs/namespaces/{namespace}/tags", tags::list)
        .post("/v2/metadefs/namespaces/{namespace}/tags", tags::create_all)
        .delete("/v2/metadefs/namespaces/{namespace}/tags", tags::delete_all)
        .get("/v2/metadefs/namespaces/{namespace}/tags/{tag}", tags::show)
        .post("/v2/metadefs/namespaces/{namespace}/tags/{tag}", tags::create)
        .put("/v2/metadefs/namespaces/{namespace}/tags/{tag}", tags::update)
        .delete("/v2/metadefs/namespaces/{namespace}/tags/{tag}", tags::delete)
}
