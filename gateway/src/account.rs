//! Whose account a request is about, for counting its failures.

use std::borrow::Cow;

use axum::{
    body::HttpBody,
    http::{HeaderMap, header},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use common::wire::graphql::GraphqlRequest;
use serde_json::Value;

use crate::{
    domain::route::Account,
    error::Refusal,
    upload::{Upload, UploadError},
};

/// A login is smaller.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// The account, or what comes nearest to it; empty when nothing does. A body that has to be read is read ahead.
pub(crate) async fn of<'a>(
    account: Account,
    headers: &'a HeaderMap,
    path: &'a str,
    body: &mut Upload,
) -> Result<Cow<'a, str>, Refusal> {
    match account {
        Account::Caller => {
            let token =
                headers.get(header::AUTHORIZATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
            let token = token.unwrap_or(Cow::Borrowed(path));
            // Whoever refreshes his token is the same user. A forged one costs only budgets of the forger's address.
            Ok(holder(&token).map_or(token, Cow::Owned))
        }
        Account::Body => Ok(Cow::Owned(username(read_ahead(body).await?))),
        Account::Graphql => Ok(Cow::Owned(graphql_username(read_ahead(body).await?))),
    }
}

/// The whole body, if it is as small as it has to be.
async fn read_ahead(body: &mut Upload) -> Result<&[u8], Refusal> {
    let is_too_large = |body: &Upload| body.size_hint().lower() > MAX_BODY_BYTES as u64;
    // What says at once that it is no login is not waited for.
    if !is_too_large(body) {
        body.read_ahead(MAX_BODY_BYTES).await?;
    }
    if is_too_large(body) {
        return Err(UploadError::TooLarge.into());
    }
    Ok(body.ahead())
}

/// The user whom a token names, of which nothing is verified.
fn holder(token: &str) -> Option<String> {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    Some(format!("user {}", claims.get("userid")?.as_i64()?))
}

/// As auth reads it: user names are in lower case there.
fn username(body: &[u8]) -> String {
    let document: Option<Value> = serde_json::from_slice(body).ok();
    let name = document.as_ref().and_then(|document| document.get("username")?.as_str());
    name.unwrap_or_default().to_lowercase()
}

/// As auth reads it, with the same function: nobody's is the login of which it cannot be said, and auth refuses that.
fn graphql_username(body: &[u8]) -> String {
    GraphqlRequest::parse(body).ok().and_then(|request| request.login()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn the_user_name_is_read_as_auth_reads_it() {
        for (body, expected) in [
            (r#"{"username": "Joe", "passwd": "x"}"#, "joe"),
            (r#"{"username": "a", "username": "b"}"#, "b"),
            (r#"{"username": 7}"#, ""),
            (r#"["username"]"#, ""),
            ("", ""),
            ("{", ""),
        ] {
            assert_eq!(username(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn a_login_by_graphql_is_somebodys() {
        for (body, expected) in [
            (r#"{"query": "mutation { login(username: \"Joe\", passwd: \"x\") { jwt } }"}"#, "joe"),
            (
                r#"{"query": "mutation($u: String) { login(username: $u) { jwt } }", "variables": {"u": "Joe"}}"#,
                "joe",
            ),
            (r#"{"query": "{ none }", "username": "joe"}"#, ""),
            (r#"{"username": "joe"}"#, ""),
            ("[]", ""),
            ("{", ""),
        ] {
            assert_eq!(graphql_username(body.as_bytes()), expected, "{body}");
        }
    }

    #[tokio::test]
    async fn a_body_is_put_back_and_a_large_one_refused() {
        let upload = |size: usize| Upload::new(Body::from(vec![b'x'; size]), usize::MAX, Instant::now());
        let headers = HeaderMap::new();
        let mut body = upload(MAX_BODY_BYTES);
        of(Account::Body, &headers, "/", &mut body).await.unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), MAX_BODY_BYTES);
        let refused = of(Account::Body, &headers, "/", &mut upload(MAX_BODY_BYTES + 1)).await;
        assert!(matches!(refused, Err(Refusal::Body(UploadError::TooLarge))));
    }

    #[tokio::test]
    async fn a_token_stands_for_its_holder() {
        let mut headers = HeaderMap::new();
        let mut body = Upload::new(Body::empty(), 0, Instant::now());
        assert_eq!(of(Account::Caller, &headers, "/x", &mut body).await.unwrap(), "/x");
        headers.insert(header::AUTHORIZATION, "Bearer t".parse().unwrap());
        assert_eq!(of(Account::Caller, &headers, "/x", &mut body).await.unwrap(), "Bearer t");
        for (payload, expected) in [
            (r#"{"userid": 7, "iat": 1}"#, "user 7"),
            (r#"{"userid": 7, "iat": 2}"#, "user 7"),
            (r#"{"userid": "7"}"#, "Bearer h."),
            ("[]", "Bearer h."),
        ] {
            let token = format!("Bearer h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(payload));
            headers.insert(header::AUTHORIZATION, token.parse().unwrap());
            let account = of(Account::Caller, &headers, "/x", &mut body).await.unwrap().into_owned();
            assert!(account.starts_with(expected), "{payload} {account}");
        }
    }
}
