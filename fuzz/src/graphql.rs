//! Whose login a GraphQL request is, is said for one login only. The input is tried as a body, and as a query with and
//! without variables.

use serde_json::{Value, json};

use crate::wire::graphql::GraphqlRequest;

/// Checks one input.
pub fn check(data: &[u8]) {
    body(data);
    let Ok(query) = str::from_utf8(data) else { return };
    for variables in [Value::Null, json!({ "u": "Joe", "p": "x" })] {
        body(json!({ "query": query, "variables": variables }).to_string().as_bytes());
    }
}

fn body(body: &[u8]) {
    let Ok(request) = GraphqlRequest::parse(body) else { return };
    let Some(username) = request.login() else { return };
    assert!(request.asks_for_login());
    assert_eq!(username, username.to_lowercase());
    assert_eq!(request.document.operations.iter().count(), 1);
}
