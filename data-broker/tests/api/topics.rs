use std::sync::Arc;

use axum::Router;
use common::{
    http::{Caller, client::Service as Name},
    testing::{self, Neighbours, TestEngines, eventually, fresh_tenant, user_of},
    wire::{Subject, Tenant},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Service, config};

#[tokio::test]
async fn a_topic_is_created_once_and_can_be_used_at_once() {
    for engines in TestEngines::both().await {
        let service = Service::start(engines).await;
        let tenant = service.tenant();
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
    let caller = user_of(&service.tenant());
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
    let caller = Caller::service("persister", &service.tenant());
    for subject in ["a%20b", "a%2Fb", "%23", "a".repeat(201).as_str(), "a%00"] {
        let path = format!("/topic/{subject}");
        let answer =
            service.engines.request(Method::GET, &service.base, &path, &caller).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{subject}");
    }
}

#[tokio::test]
async fn a_tenant_that_does_not_exist_gets_no_topic() {
    for engines in TestEngines::both().await {
        let service = Service::start(engines).await;
        let tenant = fresh_tenant();
        let ask = || async {
            let caller = Caller::service("iot-agent-mqtt", &tenant);
            let request = service.engines.request(Method::GET, &service.base, "/topic/device-data", &caller);
            request.send().await.unwrap().status()
        };
        assert_eq!(ask().await, StatusCode::GONE);
        service.neighbours.add_tenant(&tenant);
        assert_eq!(ask().await, StatusCode::OK, "a new tenant need not wait until it is announced");
        service.neighbours.remove_tenant(&tenant, &["data-broker"]).await;
        assert_eq!(ask().await, StatusCode::GONE);
    }
}

#[tokio::test]
async fn topics_of_a_removed_tenant_go_when_all_others_are_done() {
    for engines in TestEngines::both().await {
        let service = Service::start(engines).await;
        let (tenant, stays) = (service.tenant(), service.tenant());
        for tenant in [&tenant, &stays] {
            let caller = Caller::service("persister", tenant);
            let request = service.engines.request(Method::GET, &service.base, "/topic/device-data", &caller);
            assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
        }
        let log = &service.engines.engines.log;
        service.neighbours.record_removal(&tenant, &["data-broker", "persister"]);
        // The list is read at the start: this is what a restart after a removal finds.
        service.another().await;
        assert_eq!(log.topics_of(&tenant).await.unwrap().len(), 1, "persister still reads it");
        service.neighbours.confirm(&tenant, "persister");
        service.neighbours.removal_is_over(&tenant).await;
        eventually("the topics are gone", || async {
            log.topics_of(&tenant).await.unwrap().is_empty().then_some(())
        })
        .await;
        assert_eq!(log.topics_of(&stays).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_tenant_has_so_many_topics_and_no_more() {
    for engines in TestEngines::both().await {
        let config = data_broker::Config { max_topics_per_tenant: 2, ..config() };
        let neighbours = Neighbours::start(&engines.engines, &[Name::Auth], Router::new()).await;
        let service = Service::start_with(config, Arc::new(engines), neighbours).await;
        let (tenant, other) = (service.tenant(), service.tenant());
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
