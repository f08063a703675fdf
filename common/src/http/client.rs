//! Calls between services, each signed for its caller.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::caller::{CALLER_HEADER, Caller, InternalKey};
use crate::clock::Clock;

/// A service that others call over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Users, tenants, tokens, decisions.
    Auth,
    /// Devices, templates, actuation, device credentials.
    DeviceManager,
    /// Topics, socket.io.
    DataBroker,
    /// Readings over time.
    History,
    /// Tickets and websockets.
    KafkaWs,
    /// Certificates.
    X509Identity,
}

/// Base URLs of the services, section `urls` of the settings. Cheap to clone; `tatami up` fills it as it binds.
#[derive(Debug, Clone, Default)]
pub struct Urls(Arc<RwLock<HashMap<Service, String>>>);

impl Urls {
    /// URLs from the settings.
    pub fn new(urls: HashMap<Service, String>) -> Self {
        Self(Arc::new(RwLock::new(urls)))
    }

    /// Sets or replaces the URL of a service, for example `http://127.0.0.1:5000`.
    pub fn set(&self, service: Service, url: impl Into<String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(service, url.into());
    }

    /// The URL of a service, without a trailing slash.
    pub fn get(&self, service: Service) -> Option<String> {
        let urls = self.0.read().unwrap_or_else(PoisonError::into_inner);
        urls.get(&service).map(|url| url.trim_end_matches('/').to_owned())
    }
}

/// Why another service did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It cannot be reached, takes too long or says 5xx; trying again later may help.
    #[error("{service:?} is not available: {reason}")]
    Unavailable {
        /// The service that was called.
        service: Service,
        /// What happened.
        reason: String,
    },
    /// It answered with another status than success.
    #[error("{service:?} answered {status}")]
    Refused {
        /// The service that was called.
        service: Service,
        /// Its answer.
        status: StatusCode,
    },
}

impl CallError {
    /// Whether what was asked about is gone for good, which is more than that it cannot be seen.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::GONE, .. })
    }
}

/// Client for our own services. Cheap to clone.
#[derive(Clone)]
pub struct InternalClient {
    http: reqwest::Client,
    urls: Urls,
    key: InternalKey,
    clock: Clock,
}

impl InternalClient {
    /// A client whose requests are signed with `key`.
    pub fn new(urls: Urls, key: InternalKey, clock: Clock) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { http, urls, key, clock })
    }

    /// Base URLs of the services.
    pub fn urls(&self) -> &Urls {
        &self.urls
    }

    /// The key of the caller header, for servers and for the gateway.
    pub fn key(&self) -> &InternalKey {
        &self.key
    }

    /// Gets a JSON document; `path` is path and query.
    pub async fn get<T: DeserializeOwned>(
        &self,
        to: Service,
        path: &str,
        caller: &Caller,
    ) -> Result<T, CallError> {
        let response = self.send(to, Method::GET, path, caller, |request| request).await?;
        read(to, response).await
    }

    /// Posts a JSON document and reads one.
    pub async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        to: Service,
        path: &str,
        caller: &Caller,
        body: &B,
    ) -> Result<T, CallError> {
        let response = self.send(to, Method::POST, path, caller, |request| request.json(body)).await?;
        read(to, response).await
    }

    /// Deletes something; what is not there any more is an error.
    pub async fn delete(&self, to: Service, path: &str, caller: &Caller) -> Result<(), CallError> {
        self.send(to, Method::DELETE, path, caller, |request| request).await.map(drop)
    }

    /// Posts a JSON document and returns status and body of the answer, for callers to whom a refusal says more than
    /// that it is one. A status of 500 or more is an error.
    pub async fn exchange<B: Serialize + Sync>(
        &self,
        to: Service,
        path: &str,
        caller: &Caller,
        body: &B,
    ) -> Result<(StatusCode, bytes::Bytes), CallError> {
        let response = self.answer(to, Method::POST, path, caller, |request| request.json(body)).await?;
        let status = response.status();
        let unavailable =
            |error: reqwest::Error| CallError::Unavailable { service: to, reason: error.to_string() };
        Ok((status, response.bytes().await.map_err(unavailable)?))
    }

    /// Sends a request and returns the answer when its status is a success.
    async fn send(
        &self,
        to: Service,
        method: Method,
        path: &str,
        caller: &Caller,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, CallError> {
        let response = self.answer(to, method, path, caller, with).await?;
        let status = response.status();
        if status.is_success() { Ok(response) } else { Err(CallError::Refused { service: to, status }) }
    }

    /// Sends a request and returns the answer unless the service is in trouble.
    async fn answer(
        &self,
        to: Service,
        method: Method,
        path: &str,
        caller: &Caller,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, CallError> {
        let unavailable = |reason: String| CallError::Unavailable { service: to, reason };
        let base = self.urls.get(to).ok_or_else(|| unavailable("its URL is not known yet".to_owned()))?;
        let signature = self.key.sign(&method, path, caller, &self.clock);
        let request = self.http.request(method, format!("{base}{path}")).header(CALLER_HEADER, signature);
        let response = with(request).send().await.map_err(|error| unavailable(error.to_string()))?;
        let status = response.status();
        if status.is_server_error() {
            Err(unavailable(format!("it answered {status}")))
        } else {
            Ok(response)
        }
    }
}

async fn read<T: DeserializeOwned>(from: Service, response: Response) -> Result<T, CallError> {
    let unavailable = |reason: String| CallError::Unavailable { service: from, reason };
    response.json().await.map_err(|error| unavailable(format!("its answer cannot be read: {error}")))
}

impl From<CallError> for super::Problem {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unavailable { service, reason } => {
                tracing::warn!(?service, reason, "a request was refused because a service is away");
                Self::unavailable("another service")
            }
            CallError::Refused { .. } => Self::internal(error),
        }
    }
}
