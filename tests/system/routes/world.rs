//! A tenant that has one of everything.

use openssl::{
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    x509::{X509NameBuilder, X509ReqBuilder},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use system_tests::{
    Api, Stack,
    api::{Credentials, fresh},
    endpoints::{Door, Doors, Endpoint, endpoints},
    mqtt::Device,
    stack::until,
};

use super::samples::{SAMPLES, Sample};

pub(crate) struct World {
    /// Administers the tenant.
    pub(crate) owner: Api,
    /// Has no permission at all.
    pub(crate) powerless: Api,
    pub(crate) credentials: Credentials,
    things: Vec<(&'static str, String)>,
}

impl World {
    /// Templates are numbered by each tenant for itself: `templates_before` makes the numbers those of this tenant alone.
    pub(crate) async fn new(stack: &Stack, admin: &Api, templates_before: usize) -> Self {
        let owner = admin.create_tenant(stack).await;
        let powerless = owner.create_user(stack, &owner.tenant, "nope").await;
        let user = owner.create_user(stack, &owner.tenant, "user").await.username;
        let (permission, group) = (fresh("p"), fresh("g"));
        admin
            .post("/auth/pap/permission", json!({ "name": permission, "path": "/own", "method": "GET" }))
            .await;
        admin.post("/auth/pap/group", json!({ "name": group })).await;

        for _ in 0..templates_before {
            owner.post("/template", json!({ "label": "before", "attrs": [] })).await;
        }
        let label = fresh("secret");
        let attrs = json!([
            { "label": "temperature", "type": "dynamic", "value_type": "float" },
            { "label": "fan", "type": "actuator", "value_type": "float" },
        ]);
        let template = owner.post("/template", json!({ "label": label, "attrs": attrs })).await;
        let spare = owner.post("/template", json!({ "label": label, "attrs": [] })).await;
        let id_of = |answer: &Value| answer["template"]["id"].to_string();
        let (template, spare) = (id_of(&template), id_of(&spare));
        let device = owner.post("/device", json!({ "label": label, "templates": [template] })).await;
        let device = device["devices"][0]["id"].as_str().unwrap().to_owned();

        let credentials = owner.credentials(&device).await;
        let topic = format!("{}:{device}/attrs", owner.tenant);
        let sent =
            Device::with_password(stack, &credentials).publish(&topic, 1, r#"{"temperature": 31415}"#).await;
        assert_eq!(sent.code, Some(0), "{sent:?}");
        until("the reading", || async { owner.history(&device, "temperature", 1).await == [json!(31415)] })
            .await;

        let csr = signing_request(&format!("{}:{device}", owner.tenant));
        let certificate = json!({ "csr": csr, "belongsTo": { "device": device } });
        let certificate = owner.post("/x509/v1/certificates", certificate).await;
        let fingerprint = certificate["certificateFingerprint"].as_str().unwrap().to_owned();
        let things = vec![
            ("tenant", owner.tenant.clone()),
            ("topic", format!("{}.device-data", owner.tenant)),
            ("user", user),
            ("permission", permission),
            ("group", group),
            ("secret", label),
            ("device", device),
            ("template", template),
            ("spare", spare),
            ("csr", csr),
            ("fingerprint", fingerprint),
        ];
        Self { owner, powerless, credentials, things }
    }

    pub(crate) fn thing(&self, name: &str) -> &str {
        let found = self.things.iter().find(|(thing, _)| *thing == name);
        &found.unwrap_or_else(|| panic!("this world has no {name}")).1
    }

    /// What nobody else may ever be shown without having said it.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        let mut secrets = vec!["31415"];
        secrets.extend(["tenant", "user", "secret", "device", "fingerprint"].map(|name| self.thing(name)));
        secrets.push(&self.powerless.username);
        secrets
    }

    /// A text with the things of this tenant in the place of `<words>`.
    pub(crate) fn fill(&self, text: &str) -> String {
        let mut filled = text.replace("<new>", &fresh("n"));
        for (name, thing) in &self.things {
            filled = filled.replace(&format!("<{name}>"), thing);
        }
        assert!(!filled.contains('<'), "an unknown word in {text}");
        filled
    }

    /// The same for a body.
    pub(crate) fn body(&self, sample: &Sample) -> Option<Value> {
        fn fill(world: &World, value: &mut Value) {
            match value {
                Value::String(text) => *text = world.fill(text),
                Value::Array(members) => members.iter_mut().for_each(|member| fill(world, member)),
                Value::Object(members) => members.values_mut().for_each(|member| fill(world, member)),
                _ => {}
            }
        }
        let mut body = serde_json::from_str(sample.body).ok()?;
        fill(self, &mut body);
        Some(body)
    }

    /// The path of a request for things of this tenant.
    pub(crate) fn path(&self, request: &Request) -> String {
        let segments = request.door.path.split('/').map(|segment| match segment {
            "{id}" if request.endpoint.route.starts_with("/template") => self.thing("template"),
            "{id}" => self.thing("device"),
            "{template}" if request.endpoint.route.contains("{id}") => self.thing("spare"),
            "{*rest}" => "x",
            parameter => match parameter.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(name) => self.thing(name),
                None => segment,
            },
        });
        segments.collect::<Vec<_>>().join("/") + &self.fill(request.sample.query())
    }
}

/// A sample and one way to send it.
pub(crate) struct Request {
    pub(crate) endpoint: Endpoint,
    pub(crate) door: Door,
    pub(crate) sample: &'static Sample,
}

impl Request {
    /// Every endpoint through every door, in the order of the samples.
    pub(crate) fn all() -> Vec<Self> {
        let doors = Doors::embedded();
        let mut all = Vec::new();
        for endpoint in endpoints() {
            for door in doors.to(&endpoint) {
                let place = SAMPLES.iter().position(|sample| sample.is_of(&endpoint));
                let place = place.unwrap_or_else(|| {
                    panic!("tests/system/routes/samples.rs has no sample of {endpoint:?}")
                });
                all.push((place, Self { endpoint: endpoint.clone(), door, sample: &SAMPLES[place] }));
            }
        }
        all.sort_by_key(|(place, _)| *place);
        all.into_iter().map(|(_, request)| request).collect()
    }

    pub(crate) fn method(&self) -> Method {
        self.endpoint.method()
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.endpoint.method == "GET"
    }

    /// Asks for things of a tenant as somebody.
    pub(crate) async fn send(&self, of: &World, by: &Api) -> (StatusCode, Value) {
        by.send(self.method(), &of.path(self), of.body(self.sample)).await
    }
}

/// A CSR in PEM.
fn signing_request(name: &str) -> String {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let mut request = X509ReqBuilder::new().unwrap();
    request.set_subject_name(&subject.build()).unwrap();
    request.set_pubkey(&key).unwrap();
    request.sign(&key, MessageDigest::sha256()).unwrap();
    String::from_utf8(request.build().to_pem().unwrap()).unwrap()
}
