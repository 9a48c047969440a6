//! Pages of a list, and queries that became strict in a later version.

use serde::Serialize;

use super::query::Query;
use super::schema::{Object, Schema};
use super::{Fault, Microversion};

#[derive(Debug, PartialEq, Serialize)]
pub struct Link {
    pub rel: &'static str,
    pub href: String,
}

/// The page of `items` that the query's `marker` and `limit` ask for. `missing` words the refusal of a marker that is not there.
pub fn cut<T>(mut items: Vec<T>, query: &Query, id: impl Fn(&T) -> &str, missing: fn(&str) -> String) -> Result<Vec<T>, Fault> {
    if let Some(marker) = query.get("marker") {
        let at = items.iter().position(|item| id(item) == marker).ok_or_else(|| Fault::bad_request(missing(marker)))?;
        items.drain(..=at);
    }
    items.truncate(query.limit()?);
    Ok(items)
}

/// The schema of a query that ignored unknown parameters before a version of compute, 2.75.
pub struct QuerySchema {
    early: Schema,
    strict: Schema,
}

impl QuerySchema {
    pub fn new(object: Object) -> Self {
        QuerySchema { early: object.clone().open().into(), strict: object.into() }
    }

    pub fn check(&self, query: &Query, version: Microversion) -> Result<(), Fault> {
        query.check(if version.at_least(75) { &self.strict } else { &self.early }, version)
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::object;
    use super::*;

    #[test]
    fn pages_start_behind_the_marker() {
        let cut = |text: &str| cut(vec!["a", "b", "c"], &Query::parse(text), |item| item, |m| format!("no {m}"));
        assert_eq!(cut(""), Ok(vec!["a", "b", "c"]));
        assert_eq!(cut("limit=2"), Ok(vec!["a", "b"]));
        assert_eq!(cut("limit=1&marker=a"), Ok(vec!["b"]));
        assert_eq!(cut("marker=c"), Ok(vec![]));
        assert_eq!(cut("marker=z").unwrap_err().message, "no z");
    }

    #[test]
    fn unknown_parameters_are_refused_from_2_75_on() {
        let schema = QuerySchema::new(object().optional("limit", Schema::count().many()));
        let query = Query::parse("limit=1&odd=1");
        assert!(schema.check(&query, Microversion(74)).is_ok());
        assert_eq!(schema.check(&query, Microversion(75)).unwrap_err().code, 400);
    }
}
