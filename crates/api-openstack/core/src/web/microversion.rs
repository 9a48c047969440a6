//! Microversions: which form of request and answer a client speaks.
//!
//! Clients say it in `OpenStack-API-Version: compute 2.79`, or in the older header of a service that has one; the answer names the version
//! that was used. A service's stated maximum is a promise: every step up to it is honoured.

use std::convert::Infallible;

use crate::RequestId;
use axum::extract::{FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::Fault;

/// A version by its minor number: the major one is the service's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Microversion(pub u16);

/// The versions of one service.
#[derive(Debug)]
pub struct Dialect {
    /// Its name in headers.
    pub service: &'static str,
    pub major: u16,
    pub minimum: Microversion,
    pub maximum: Microversion,
    /// An older header, lower case and as it is written, that only this service knows.
    pub older: Option<(&'static str, &'static str)>,
    /// The header that names the request in answers.
    pub request_id: &'static str,
}

const NEW: &str = "openstack-api-version";

impl Microversion {
    /// Is it this one or later?
    pub fn at_least(self, minor: u16) -> bool {
        self.0 >= minor
    }

    /// The refusal for a resource that does not exist in this version.
    pub fn require(self, range: impl std::ops::RangeBounds<u16>) -> Result<(), Fault> {
        if range.contains(&self.0) { Ok(()) } else { Err(Fault::not_found("The resource could not be found.")) }
    }
}

/// The middleware has put it there.
impl<S: Sync> FromRequestParts<S> for Microversion {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or(Microversion(1)))
    }
}

impl Dialect {
    /// `2.79`
    pub fn text(&self, version: Microversion) -> String {
        format!("{}.{}", self.major, version.0)
    }

    /// Middleware: decides the version, or refuses, and says it in the answer.
    pub async fn negotiate(&'static self, mut request: Request, next: Next) -> Response {
        let id = request_id(&mut request);
        let (used, mut response) = match self.requested(request.headers()) {
            Ok(version) => {
                request.extensions_mut().insert(version);
                (version, next.run(request).await)
            }
            Err(fault) => (self.minimum, fault.into_response()),
        };
        self.mark(response.headers_mut(), used);
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(self.request_id, id);
        }
        response
    }

    fn mark(&self, headers: &mut HeaderMap, used: Microversion) {
        let value = |text: String| HeaderValue::from_str(&text).expect("digits and letters are a header value");
        let text = self.text(used);
        headers.insert(NEW, value(format!("{} {text}", self.service)));
        headers.append(header::VARY, HeaderValue::from_static("OpenStack-API-Version"));
        if let Some((name, written)) = self.older {
            headers.insert(name, value(text));
            headers.append(header::VARY, HeaderValue::from_static(written));
        }
    }

    /// What the headers ask for. The newer header wins; entries for other services are not ours.
    fn requested(&self, headers: &HeaderMap) -> Result<Microversion, Fault> {
        let newer = headers
            .get_all(NEW)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|entry| entry.trim().split_once(char::is_whitespace))
            .rfind(|(service, _)| service.eq_ignore_ascii_case(self.service))
            .map(|(_, version)| version.trim());
        let older = || headers.get(self.older?.0).and_then(|value| value.to_str().ok()).map(str::trim);
        newer.or_else(older).map_or(Ok(self.minimum), |text| self.parse(text))
    }

    fn parse(&self, text: &str) -> Result<Microversion, Fault> {
        if text.eq_ignore_ascii_case("latest") {
            return Ok(self.maximum);
        }
        let number = |part: &str| -> Option<u16> {
            let plain = part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
            plain.then(|| part.parse().ok()).flatten()
        };
        let Some((major, minor)) = text.split_once('.').and_then(|(major, minor)| Some((number(major)?, number(minor)?))) else {
            let message = format!("API Version String {text} is of invalid format. Must be of format MajorNum.MinorNum.");
            return Err(Fault::bad_request(message));
        };
        if major != self.major || !(self.minimum..=self.maximum).contains(&Microversion(minor)) {
            let (minimum, maximum) = (self.text(self.minimum), self.text(self.maximum));
            let message = format!("Version {text} is not supported by the API. Minimum is {minimum} and maximum is {maximum}.");
            return Err(Fault::new(StatusCode::NOT_ACCEPTABLE, message));
        }
        Ok(Microversion(minor))
    }
}

/// The id that an outer layer gave to the request, or one made here: actions are named by it.
fn request_id(request: &mut Request) -> String {
    let made = || RequestId(format!("req-{}", uuid::Uuid::new_v4()));
    request.extensions_mut().get_or_insert_with(made).0.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "x-openstack-nova-api-version";
    const COMPUTE: Dialect = Dialect {
        service: "compute",
        major: 2,
        minimum: Microversion(1),
        maximum: Microversion(100),
        older: Some((OLD, "X-OpenStack-Nova-API-Version")),
        request_id: "x-compute-request-id",
    };

    fn ask(entries: &[(&'static str, &'static str)]) -> Result<u16, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in entries {
            headers.append(*name, HeaderValue::from_static(value));
        }
        COMPUTE.requested(&headers).map(|v| v.0).map_err(|f| f.code.as_u16())
    }

    #[test]
    fn headers_choose_the_version() {
        assert_eq!(ask(&[]), Ok(1));
        assert_eq!(ask(&[(NEW, "compute 2.79")]), Ok(79));
        assert_eq!(ask(&[(NEW, "volume 3.1, compute 2.5")]), Ok(5));
        assert_eq!(ask(&[(NEW, "volume 3.1")]), Ok(1));
        assert_eq!(ask(&[(OLD, "2.60")]), Ok(60));
        assert_eq!(ask(&[(OLD, "2.60"), (NEW, "compute 2.3")]), Ok(3));
        assert_eq!(ask(&[(OLD, "latest")]), Ok(100));
        assert_eq!(ask(&[(NEW, "compute 2.9999")]), Err(406));
        assert_eq!(ask(&[(NEW, "compute 2.0")]), Err(406));
        assert_eq!(ask(&[(NEW, "compute 3.1")]), Err(406));
        for odd in ["compute 2", "compute 2.x", "compute 2.01", "compute 2.1.1", "compute -2.1", "compute 2."] {
            assert_eq!(ask(&[(NEW, odd)]), Err(400), "{odd}");
        }
    }
}
