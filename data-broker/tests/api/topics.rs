use std::sync::Arc;

use common::{
    http::Caller,
    testing::{self, TestEngines, fresh_tenant, user_of},
    wire::{Subject, Tenant},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Service, config};

#[tokio::test]
async fn a_topic_is_created_once_and_can_be_used_at_once() {
    for engines in TestEngines::both().await {
        let service = Service::start(engines).await;
        let tenant = fresh_tenant();
        let caller = Caller::service("persister", &tenant);
        for _ in 0..2 {
            let request = service.engines.request(
                Method::GET,
                &service.base,
                "/topic/device-data?global=true",
                &caller,
            );
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(
                answer.json::<Value>().await.unwrap(),
                json!({ "topic": format!("{tenant}.device-data") })
            );
        }
        service.append(&tenant, &Subject::DEVICE_DATA, "{}").await;
    }
}

#[tokio::test]
async fn the_management_tenant_has_topics_too() {
    let service = Service::start(TestEngines::embedded().await).await;
    let caller = Caller::service("auth", &Tenant::management());
    let answer =
        service.engines.request(Method::GET, &service.base, "/topic/dojot.tenancy", &caller).send().await;
    assert_eq!(
        answer.unwrap().json::<Value>().await.unwrap(),
        json!({ "topic": "dojot-management.dojot.tenancy" })
    );
}

#[tokio::test]
async fn only_services_ask_for_topics() {
    let service = Service::start(TestEngines::embedded().await).await;
    let caller = user_of(&fresh_tenant());
    let answer = service
        .engines
        .request(Method::GET, &service.base, "/topic/device-data", &caller)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let answer = testing::client().get(format!("{}/topic/device-data", service.base)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let answer = testing::client().get(format!("{}/socketio", service.base)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "message": "Missing JWT token" }));
}

#[tokio::test]
async fn a_bad_subject_is_refused() {
    let service = Service::start(TestEngines::embedded().await).await;
    let caller = Caller::service("persister", &fresh_tenant());
    for subject in ["a%20b", "a%2Fb", "%23", "a".repeat(201).as_str(), "a%00"] {
        let path = format!("/topic/{subject}");
        let answer =
            service.engines.request(Method::GET, &service.base, &path, &caller).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{subject}");
    }
}

#[tokio::test]
async fn a_tenant_has_so_many_topics_and_no_more() {
    for engines in TestEngines::both().await {
        let config = data_broker::Config { max_topics_per_tenant: 2, ..config() };
        let service = Service::start_with(config, Arc::new(engines)).await;
        let (tenant, other) = (fresh_tenant(), fresh_tenant());
        let ask = async |tenant: &Tenant, subject: &str| {
            let (caller, path) = (Caller::service("flow", tenant), format!("/topic/{subject}"));
            let request = service.engines.request(Method::GET, &service.base, &path, &caller);
            let answer = request.send().await.unwrap();
            (answer.status(), answer.json::<Value>().await.unwrap())
        };
        for subject in ["device-data", "one", "two", "one", "dojot.ftp", "dojot.notifications"] {
            assert_eq!(ask(&tenant, subject).await.0, StatusCode::OK, "{subject}");
        }
        let message = format!(
            "tenant {tenant} has 2 topics of subjects of its own, which is the most that \
             data_broker.max_topics_per_tenant allows"
        );
        assert_eq!(ask(&tenant, "three").await, (StatusCode::CONFLICT, json!({ "message": message })));
        assert_eq!(service.engines.engines.log.topics_of(&tenant).await.unwrap().len(), 5);
        for (tenant, subject) in [(&tenant, "two"), (&tenant, "service-status"), (&other, "three")] {
            assert_eq!(ask(tenant, subject).await.0, StatusCode::OK, "{tenant} {subject}");
        }
    }
}
