//! A user of the REST API.

use std::net::SocketAddr;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Stack, forger::claims};

/// The gateway with a user's token.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    /// Login name; empty for nobody.
    pub username: String,
    /// Tenant of the user.
    pub tenant: String,
    /// The user's token; empty for nobody.
    pub token: String,
    client: Client,
}

/// User name and password of a device.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `tenant@device`.
    pub username: String,
    /// The generated secret.
    pub password: String,
}

impl Api {
    /// Nobody: requests without a token.
    pub fn nobody(stack: &Stack) -> Self {
        Self {
            base: stack.url(""),
            username: String::new(),
            tenant: String::new(),
            token: String::new(),
            client: common::testing::client(),
        }
    }

    /// The same user at another gateway.
    #[must_use]
    pub fn at(&self, gateway: SocketAddr) -> Self {
        Self { base: format!("http://{gateway}"), ..self.clone() }
    }

    /// The same user, who shows another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Somebody who got a token in another way than by [`Api::login`].
    pub fn holding(stack: &Stack, username: &str, token: &str) -> Self {
        Self {
            username: username.to_owned(),
            tenant: claims(token)["service"].as_str().expect("a tenant").to_owned(),
            token: token.to_owned(),
            ..Self::nobody(stack)
        }
    }

    /// Logs a user in.
    pub async fn login(stack: &Stack, username: &str, password: &str) -> Self {
        let credentials = json!({ "username": username, "passwd": password });
        let answer = Self::nobody(stack).post("/auth", credentials).await;
        let token = answer["jwt"].as_str().unwrap_or_else(|| panic!("no token for {username}: {answer}"));
        Self::holding(stack, username, token)
    }

    /// Creates a tenant by creating its first user, and logs that user in.
    pub async fn create_tenant(&self, stack: &Stack) -> Self {
        self.create_user_of(stack, &fresh("t")).await
    }

    /// Creates a user of a tenant who may do everything in it, and logs that user in.
    pub async fn create_user_of(&self, stack: &Stack, tenant: &str) -> Self {
        self.create_user(stack, tenant, "admin").await
    }

    /// Creates a user of a tenant in the group `profile`, or in none if there is no such group, and logs that user in.
    pub async fn create_user(&self, stack: &Stack, tenant: &str, profile: &str) -> Self {
        let username = fresh("user_");
        let user = json!({
            "username": username, "service": tenant, "email": format!("{username}@example.com"),
            "name": "Some User", "profile": profile,
        });
        let answer = self.post("/auth/user", user).await;
        let password =
            answer[0]["user"]["initialPassword"].as_str().or_else(|| answer[0]["initialPassword"].as_str());
        let password = password.unwrap_or_else(|| panic!("no initial password: {answer}"));
        Self::login(stack, &username, password).await
    }

    /// Sends a request; returns status and body (text that is not JSON becomes a string).
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.base));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Status of a GET.
    pub async fn status(&self, path: &str) -> StatusCode {
        self.send(Method::GET, path, None).await.0
    }

    /// A GET that succeeds.
    pub async fn get(&self, path: &str) -> Value {
        self.succeed(Method::GET, path, None).await
    }

    /// A POST that succeeds.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        self.succeed(Method::POST, path, Some(body)).await
    }

    /// A PUT that succeeds.
    pub async fn put(&self, path: &str, body: Value) -> Value {
        self.succeed(Method::PUT, path, Some(body)).await
    }

    async fn succeed(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.send(method.clone(), path, body).await;
        assert!(status.is_success(), "{method} {path} answered {status}: {answer}");
        answer
    }

    /// Creates a device with a dynamic `temperature` and `number` and an actuator `fan`.
    pub async fn create_device(&self) -> String {
        let template = json!({ "label": "thermometer", "attrs": [
            { "label": "temperature", "type": "dynamic", "value_type": "float" },
            { "label": "number", "type": "dynamic", "value_type": "integer" },
            { "label": "fan", "type": "actuator", "value_type": "float" },
        ]});
        let template = self.post("/template", template).await["template"]["id"].clone();
        let answer = self.post("/device", json!({ "label": "kitchen", "templates": [template] })).await;
        answer["devices"][0]["id"].as_str().unwrap_or_else(|| panic!("no device id: {answer}")).to_owned()
    }

    /// Gives a device a new password.
    pub async fn credentials(&self, device: &str) -> Credentials {
        let answer = self
            .send(Method::POST, &format!("/basic-auth/v1/devices/{device}/basic-credentials"), None)
            .await;
        assert_eq!(answer.0, StatusCode::OK, "{}", answer.1);
        let text = |member: &str| answer.1["credentials"][member].as_str().expect("a credential").to_owned();
        Credentials { username: text("username"), password: text("password") }
    }

    /// Values of an attribute in the history, newest first; none while there are none.
    pub async fn history(&self, device: &str, attr: &str, last: usize) -> Vec<Value> {
        let path = format!("/history/device/{device}/history?attr={attr}&lastN={last}");
        match self.send(Method::GET, &path, None).await {
            (StatusCode::OK, Value::Array(items)) => {
                items.into_iter().map(|item| item["value"].clone()).collect()
            }
            (StatusCode::NOT_FOUND, _) => Vec::new(),
            (status, answer) => panic!("{path} answered {status}: {answer}"),
        }
    }

    /// A ticket for a websocket.
    pub async fn ticket(&self) -> String {
        self.get("/kafka-ws/v1/ticket").await["ticket"].as_str().expect("a ticket").to_owned()
    }

    /// A token for socket.io.
    pub async fn socketio_token(&self) -> String {
        self.get("/stream/socketio").await["token"].as_str().expect("a token").to_owned()
    }
}

/// A name that no other test uses, of letters and digits.
pub fn fresh(prefix: &str) -> String {
    format!("{prefix}{}", &Uuid::new_v4().simple().to_string()[..10])
}
