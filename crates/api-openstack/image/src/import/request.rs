//! What an import asks for, read and checked. Pure.

use reqwest::Url;
use serde_json::{Map, Value};

use crate::error::{ApiError, Result};
use crate::settings::{GLANCE_DIRECT, Settings, WEB_DOWNLOAD};

#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// What is in the staging area.
    Direct,
    Download(Url),
}

pub fn read(body: &Map<String, Value>, settings: &Settings) -> Result<Method> {
    let field = |name: &str, missing: &'static str| body.get(name).ok_or_else(|| ApiError::bad_request(missing));
    let method = field("method", "Import request requires a 'method' field.")?;
    let name = method.get("name").ok_or_else(|| ApiError::bad_request("Import request requires a 'name' field."))?;
    let name = name.as_str().unwrap_or_default();
    if !settings.import_methods().contains(&name) {
        return Err(ApiError::bad_request(format!("Unknown import method name '{name}'.")));
    }
    for flag in ["all_stores", "all_stores_must_succeed"] {
        if body.get(flag).is_some_and(|value| !value.is_boolean()) {
            return Err(ApiError::bad_request(format!("'{flag}' must be boolean value only")));
        }
    }
    if body.get("all_stores_must_succeed") == Some(&Value::Bool(false)) {
        return Err(ApiError::bad_request("All_stores_must_succeed can only be set with enabled_backends None"));
    }
    match name {
        GLANCE_DIRECT => Ok(Method::Direct),
        WEB_DOWNLOAD => source(method.get("uri"), settings).map(Method::Download),
        _ => Err(ApiError::bad_request(format!("Unknown import method name '{name}'."))),
    }
}

/// A URL that the operator allows.
pub fn source(uri: Option<&Value>, settings: &Settings) -> Result<Url> {
    let text = uri.and_then(Value::as_str).unwrap_or_default();
    let refused = || ApiError::bad_request(format!("URI for web-download does not pass filtering: {text}"));
    let url = Url::parse(text).map_err(|_| refused())?;
    if settings.allows(&url) { Ok(url) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Choices, Origin};
    use serde_json::json;

    fn status(body: Value, settings: &Settings) -> u16 {
        read(body.as_object().unwrap(), settings).map_or_else(|e| e.status.as_u16(), |_| 202)
    }

    #[test]
    fn requests() {
        let closed = Settings::default();
        let allowed = Origin::parse("http://images.test:8080").unwrap();
        let open = Settings::new(Choices { download_from: vec![allowed], ..Choices::default() });
        let web = |uri: &str| json!({ "method": { "name": "web-download", "uri": uri } });
        assert_eq!(status(json!({ "method": { "name": "glance-direct" } }), &closed), 202);
        assert_eq!(status(web("http://images.test:8080/x"), &closed), 400);
        assert_eq!(status(web("http://images.test:8080/x"), &open), 202);
        for uri in ["http://images.test/x", "https://images.test:8080/x", "http://127.0.0.1:8080/", "file:///etc/passwd", "", "x"] {
            assert_eq!(status(web(uri), &open), 400, "{uri}");
        }
        assert_eq!(status(json!({}), &open), 400);
        assert_eq!(status(json!({ "method": {} }), &open), 400);
        assert_eq!(status(json!({ "method": { "name": "copy-image" } }), &open), 400);
        assert_eq!(status(json!({ "method": { "name": "glance-direct" }, "all_stores": "yes" }), &open), 400);
    }
}
