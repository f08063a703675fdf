//! A tenant that is removed leaves nothing to the next one of its name, whatever happens in between.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use system_tests::{
    Api, Stack,
    api::Credentials,
    mqtt::Device,
    stack::{Kind, until},
};

/// A tenant with a bit of everything.
struct Former {
    api: Api,
    device: String,
    credentials: Credentials,
}

impl Former {
    async fn new(stack: &Stack, admin: &Api, tenant: &str) -> Self {
        let api = admin.create_user_of(stack, tenant).await;
        let device = api.create_device().await;
        let credentials = api.credentials(&device).await;
        let former = Self { api, device, credentials };
        assert_eq!(former.publish(stack).await, Some(0));
        until("the reading is in the history", || async {
            former.api.history(&former.device, "temperature", 10).await == [json!(1)]
        })
        .await;
        former
    }

    async fn publish(&self, stack: &Stack) -> Option<i32> {
        let topic = format!("{}:{}/attrs", self.api.tenant, self.device);
        let device = Device::with_password(stack, &self.credentials);
        device.publish(&topic, 1, r#"{"temperature": 1}"#).await.code
    }

    /// Removes its only user, and so the tenant.
    async fn remove(&self, admin: &Api) {
        let path = format!("/auth/user/{}", self.api.username);
        let (status, answer) = admin.send(Method::DELETE, &path, None).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    /// What a user of a new tenant of the same name finds of it.
    async fn assert_gone(&self, stack: &Stack, new: &Api) {
        assert_eq!(new.get("/device").await["devices"], json!([]));
        assert_eq!(new.get("/template").await["templates"], json!([]));
        assert_eq!(new.get("/x509/v1/certificates").await["certificates"], json!([]));
        assert_eq!(new.history(&self.device, "temperature", 10).await, [Value::Null; 0]);
        assert_ne!(self.publish(stack).await, Some(0), "the password of a former device");
        assert_eq!(self.api.status("/device").await, StatusCode::UNAUTHORIZED, "the token of a former user");
    }
}

async fn create_again(stack: &Stack, tenant: &str) -> Api {
    let admin = stack.admin().await;
    until("the name is free again", || async {
        let user = json!({
            "username": format!("probe{tenant}"), "service": tenant, "email": format!("{tenant}@example.com"),
            "name": "Probe", "profile": "admin",
        });
        let (status, answer) = admin.send(Method::POST, "/auth/user", Some(user)).await;
        assert!(status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE, "{status} {answer}");
        status.is_success()
    })
    .await;
    admin.create_user_of(stack, tenant).await
}

async fn a_name_comes_back_clean(kind: Kind, victims: &[&str]) {
    let mut stack = Stack::start(kind).await;
    for (round, victims) in [&[][..], victims, victims].into_iter().enumerate() {
        let (admin, tenant) = (stack.admin().await, format!("comesback{round}"));
        let former = Former::new(&stack, &admin, &tenant).await;
        // With one process for all it dies as soon as the removal is recorded; single services are down before.
        if kind == Kind::Split {
            for victim in victims {
                stack.kill(victim).await;
            }
            former.remove(&admin).await;
            for victim in victims {
                stack.restart(victim);
            }
        } else {
            former.remove(&admin).await;
            for victim in victims {
                stack.kill_and_restart(victim).await;
            }
        }
        stack.ready().await;
        let new = create_again(&stack, &tenant).await;
        former.assert_gone(&stack, &new).await;
        // And the new tenant works through the whole path.
        let device = new.create_device().await;
        let credentials = new.credentials(&device).await;
        let topic = format!("{tenant}:{device}/attrs");
        let device_of_new = Device::with_password(&stack, &credentials);
        let sent = device_of_new.publish(&topic, 1, r#"{"temperature": 2}"#).await;
        assert_eq!(sent.code, Some(0), "{sent:?}");
        until("the reading of the new tenant", || async {
            new.history(&device, "temperature", 10).await == [json!(2)]
        })
        .await;
        println!("round {round}: {tenant} came back clean");
    }
}

#[tokio::test]
async fn a_name_comes_back_clean_on_embedded_engines() {
    a_name_comes_back_clean(Kind::Embedded, &["up"]).await;
}

#[tokio::test]
async fn a_name_comes_back_clean_on_real_engines() {
    a_name_comes_back_clean(Kind::Real, &["up"]).await;
}

#[tokio::test]
async fn a_name_comes_back_clean_when_services_were_down() {
    a_name_comes_back_clean(Kind::Split, &["device-manager", "persister", "x509-identity", "data-broker"])
        .await;
}
