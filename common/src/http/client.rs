//! Calls between services, each signed for its caller.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use super::service::Service;
use super::{
    balance::Balancer,
    caller::{CALLER_HEADER, Caller, InternalKey},
};
use crate::clock::Clock;

/// Base URLs of the instances of one service: `http://host:port`, several with commas in between or as a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "OneOrMany")]
pub struct UrlList(Vec<String>);

impl UrlList {
    /// Each without a trailing slash.
    pub fn urls(&self) -> &[String] {
        &self.0
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for UrlList {
    fn from(urls: OneOrMany) -> Self {
        match urls {
            OneOrMany::One(urls) => urls.as_str().into(),
            OneOrMany::Many(urls) => urls.join(",").as_str().into(),
        }
    }
}

impl From<&str> for UrlList {
    fn from(urls: &str) -> Self {
        let urls = urls.split(',').map(|url| url.trim().trim_end_matches('/').to_owned());
        Self(urls.filter(|url| !url.is_empty()).collect())
    }
}

/// Base URLs of the services, section `urls` of the settings. Cheap to clone; `tatami up` fills it as it binds.
#[derive(Debug, Clone, Default)]
pub struct Urls(Arc<RwLock<HashMap<Service, Arc<Balancer<String>>>>>);

impl Urls {
    /// URLs from the settings.
    pub fn new(urls: HashMap<Service, UrlList>) -> Self {
        let balancer = |(service, urls): (_, UrlList)| (service, Arc::new(Balancer::new(urls.0)));
        Self(Arc::new(RwLock::new(urls.into_iter().map(balancer).collect())))
    }

    /// Sets or replaces the URLs of a service, for example `http://127.0.0.1:5000`; several with commas in between.
    pub fn set(&self, service: Service, urls: impl AsRef<str>) {
        let balancer = Arc::new(Balancer::new(UrlList::from(urls.as_ref()).0));
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(service, balancer);
    }

    /// The URL of the first instance of a service, without a trailing slash.
    pub fn get(&self, service: Service) -> Option<String> {
        self.all(service).into_iter().next()
    }

    /// The URLs of all instances of a service, without a trailing slash.
    pub fn all(&self, service: Service) -> Vec<String> {
        let balancer = self.balancer(service);
        let instances = balancer.iter().flat_map(|balancer| balancer.instances());
        instances.map(|instance| instance.target.clone()).collect()
    }

    fn balancer(&self, service: Service) -> Option<Arc<Balancer<String>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&service).map(Arc::clone)
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
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, CallError> {
        let response = self.answer(to, method, path, caller, with).await?;
        let status = response.status();
        if status.is_success() { Ok(response) } else { Err(CallError::Refused { service: to, status }) }
    }

    /// Sends a request to an instance that can be reached, and returns the answer unless the service is in trouble.
    async fn answer(
        &self,
        to: Service,
        method: Method,
        path: &str,
        caller: &Caller,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, CallError> {
        let unavailable = |reason: String| CallError::Unavailable { service: to, reason };
        let unknown = || unavailable("its URL is not known yet".to_owned());
        let balancer = self.urls.balancer(to).ok_or_else(unknown)?;
        let signature = self.key.sign(&method, path, caller, &self.clock);
        let mut tried = Vec::new();
        let mut failure = unknown();
        while let Some(instance) = balancer.pick(self.clock.now_ms(), &tried) {
            let request = self.http.request(method.clone(), format!("{}{path}", instance.target));
            match with(request.header(CALLER_HEADER, signature.clone())).send().await {
                Ok(response) => {
                    instance.succeeded();
                    let status = response.status();
                    return if status.is_server_error() {
                        Err(unavailable(format!("it answered {status}")))
                    } else {
                        Ok(response)
                    };
                }
                Err(error) => {
                    instance.failed(self.clock.now_ms());
                    // Another instance may be asked what the first cannot have heard, or what changes nothing.
                    let may_repeat = error.is_connect() || (method == Method::GET && !error.is_timeout());
                    failure = unavailable(error.to_string());
                    if !may_repeat {
                        break;
                    }
                    tried.push(instance.index());
                }
            }
        }
        Err(failure)
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
