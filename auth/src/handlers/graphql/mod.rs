//! GraphQL for dojot's dashboards (dojot-api.md 7.2), as express-graphql speaks it over HTTP.

mod login;
mod permissions;

use std::collections::HashMap;

use async_graphql::{
    EmptySubscription, ObjectType, Schema, SchemaBuilder, Variables, parser::types::OperationType,
};
use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use common::{
    http::{
        Problem,
        json::{body, is_json},
    },
    wire::graphql::{BadGraphql, GraphqlRequest},
};
use serde_json::{Value, json};

pub(crate) use self::{
    login::{LoginSchema, login_schema},
    permissions::{PermissionSchema, permission_schema},
};
use crate::AppState;

/// Largest body; a group with all permissions takes a twentieth.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Deepest query; the introspection is that deep.
const MAX_DEPTH: usize = 16;

/// The methods of the path where dashboards log in.
pub(crate) fn login() -> MethodRouter<AppState> {
    get(login::answer).post(login::answer).fallback(not_allowed)
}

/// The methods of the path where dashboards read and change the permissions of groups.
pub(crate) fn permissions() -> MethodRouter<AppState> {
    get(permissions::answer).post(permissions::answer).fallback(not_allowed)
}

async fn not_allowed() -> Refused {
    Refused::Method { message: "GraphQL only supports GET and POST requests.", allowed: "GET, POST" }
}

/// What a request asks, from the body of a POST or the query string of a GET, which changes nothing.
pub(crate) struct Asked(GraphqlRequest);

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        if *request.method() != Method::POST {
            return Self::of_query_string(request).await;
        }
        let is_json = is_json(request.headers());
        // Read in any case, so that the connection can be used again.
        let body = body(request, state).await?;
        if body.len() > MAX_BODY_BYTES {
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "request entity too large").into());
        }
        if !is_json {
            return Err(BadGraphql::Query.into());
        }
        Ok(Self(GraphqlRequest::parse(&body)?))
    }
}

impl Asked {
    async fn of_query_string(request: Request) -> Result<Self, Refused> {
        let mut parts = request.into_parts().0;
        let Ok(Query(query)) = Query::<HashMap<String, String>>::from_request_parts(&mut parts, &()).await
        else {
            return Err(BadGraphql::Query.into());
        };
        let asked = GraphqlRequest::of_query_string(|member| query.get(member).cloned())?;
        let is_query =
            asked.document.operations.iter().all(|(_, operation)| operation.node.ty == OperationType::Query);
        if is_query {
            Ok(Self(asked))
        } else {
            let message = "Can only perform a mutation operation from a POST request.";
            Err(Refused::Method { message, allowed: "POST" })
        }
    }

    fn into_request(self) -> async_graphql::Request {
        let GraphqlRequest { document, variables, operation_name } = self.0;
        // The text is not needed any more.
        let mut request = async_graphql::Request::new("");
        request.set_parsed_query(document);
        request.operation_name = operation_name;
        request.variables(Variables::from_json(Value::Object(variables)))
    }
}

/// A schema with the limits that all have.
fn schema<Q, M>(query: Q, mutation: M, most: usize) -> SchemaBuilder<Q, M, EmptySubscription>
where
    Q: ObjectType + 'static,
    M: ObjectType + 'static,
{
    Schema::build(query, mutation, EmptySubscription).limit_depth(MAX_DEPTH).limit_complexity(most)
}

/// Carries a request out. What a schema does not allow is 400; what fails while it is carried out is told in the answer.
async fn execute<Q, M>(
    schema: &Schema<Q, M, EmptySubscription>,
    request: async_graphql::Request,
) -> Result<Response, Problem>
where
    Q: ObjectType + 'static,
    M: ObjectType + 'static,
{
    let answer = schema.execute(request).await;
    let data = answer.data.into_json().map_err(Problem::internal)?;
    let mut body = json!({});
    if !answer.errors.is_empty() {
        body["errors"] = serde_json::to_value(&answer.errors).map_err(Problem::internal)?;
    }
    let status = if data.is_null() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    if !data.is_null() {
        body["data"] = data;
    }
    Ok((status, answer.http_headers, Json(body)).into_response())
}

/// What went wrong in a field. A field is null then and leaves the others alone if it is an `Option<Result<_>>`.
fn error(problem: &Problem) -> async_graphql::Error {
    use async_graphql::ErrorExtensions;
    let status = problem.status().as_u16();
    async_graphql::Error::new(problem.message()).extend_with(|_, extensions| extensions.set("status", status))
}

/// Why a request is not carried out.
pub(crate) enum Refused {
    Request(BadGraphql),
    Body(Problem),
    Method { message: &'static str, allowed: &'static str },
}

impl From<BadGraphql> for Refused {
    fn from(error: BadGraphql) -> Self {
        Self::Request(error)
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Body(problem)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, message) = match &self {
            Self::Request(error) => (StatusCode::BAD_REQUEST, error.to_string()),
            Self::Body(problem) => (problem.status(), problem.message()),
            Self::Method { message, .. } => (StatusCode::METHOD_NOT_ALLOWED, (*message).to_owned()),
        };
        let mut response = (status, Json(json!({ "errors": [{ "message": message }] }))).into_response();
        if let Self::Method { allowed, .. } = self {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}
