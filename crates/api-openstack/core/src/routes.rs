//! A router that knows its routes, so that a test can walk every one of them and ask for its authorisation.

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use http::{HeaderValue, Method};

use crate::Cloud;
use crate::asked::ServiceType;

/// Who may reach a route before its handler looks closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Needs a token.
    Token,
    /// Answers anybody: version documents, log-in.
    Public,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RouteInfo {
    pub method: Method,
    /// With the dialect's prefix once nested: `/compute/v2.1/servers/{id}`.
    pub path: String,
    pub access: Access,
}

/// Routes under construction.
pub struct Routes {
    router: Router<Cloud>,
    list: Vec<RouteInfo>,
}

macro_rules! methods {
    ($($name:ident $public:ident $upper:ident),*) => { $(
        pub fn $name<T: 'static>(self, path: &str, handler: impl Handler<T, Cloud>) -> Self {
            self.add(Method::$upper, MethodFilter::$upper, path, Access::Token, handler)
        }
        #[doc = "The same, without a token."]
        pub fn $public<T: 'static>(self, path: &str, handler: impl Handler<T, Cloud>) -> Self {
            self.add(Method::$upper, MethodFilter::$upper, path, Access::Public, handler)
        }
    )* };
}

impl Routes {
    pub fn new() -> Self {
        Routes { router: Router::new(), list: Vec::new() }
    }

    methods!(
        get public_get GET, post public_post POST, put public_put PUT, patch public_patch PATCH,
        delete public_delete DELETE, head public_head HEAD
    );

    fn add<T: 'static>(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &str,
        access: Access,
        handler: impl Handler<T, Cloud>,
    ) -> Self {
        self.list.push(RouteInfo { method, path: path.to_owned(), access });
        self.router = self.router.route(path, on(filter, handler));
        self
    }

    /// Adds another set of routes under a prefix such as `/compute`.
    pub fn nest(mut self, prefix: &str, inner: Routes) -> Self {
        self.list.extend(inner.list.into_iter().map(|route| {
            let path = if route.path == "/" { prefix.to_owned() } else { format!("{prefix}{}", route.path) };
            RouteInfo { path, ..route }
        }));
        self.router = self.router.nest(prefix, inner.router);
        self
    }

    /// Joins routes of the same prefix, so that a dialect can be written in several files.
    pub fn merge(mut self, other: Routes) -> Self {
        self.list.extend(other.list);
        self.router = self.router.merge(other.router);
        self
    }

    /// Says which service of the catalog these routes are, which access rules of application credentials want to know.
    pub fn of_service(mut self, service: &'static str) -> Self {
        self.router = self.router.layer(axum::Extension(ServiceType(service)));
        self
    }

    /// What answers when no route of this set matches, in the dialect's own words.
    pub fn fallback<T: 'static>(mut self, handler: impl Handler<T, Cloud>) -> Self {
        self.router = self.router.fallback(handler);
        self
    }

    /// Changes the router underneath: layers, method fallbacks.
    pub fn map(mut self, change: impl FnOnce(Router<Cloud>) -> Router<Cloud>) -> Self {
        self.router = change(self.router);
        self
    }

    pub fn list(&self) -> &[RouteInfo] {
        &self.list
    }

    pub fn into_router(self, cloud: Cloud) -> Router {
        self.router.with_state(cloud)
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self::new()
    }
}

/// The id of a request, in its extensions and in the answer's `x-openstack-request-id`.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Middleware: gives every request an id and says it in the answer.
pub async fn request_id(mut request: Request, next: Next) -> Response {
    let id = format!("req-{}", uuid::Uuid::new_v4());
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    let value = HeaderValue::from_str(&id).expect("a uuid is a header value");
    response.headers_mut().insert("x-openstack-request-id", value);
    response
}
