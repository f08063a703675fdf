//! Other spellings of paths reach nothing that the same decoded path would not.
//!
//! The gateway's own tests have the spellings against a service that answers everything (`gateway/tests/api/paths.rs`); here
//! they are tried on every endpoint of the real ones.

use system_tests::{
    Stack,
    raw::{self, bearer, request},
    stack::Kind,
};

use crate::routes::world::{Request, World};

/// Ways to write a path. Some are other paths, some the same, some are two at once.
fn spellings(path: &str) -> Vec<String> {
    let (path, query) =
        path.split_once('?').map_or((path, String::new()), |(path, query)| (path, format!("?{query}")));
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let rest = &path[first.len() + 1..];
    let escaped = path.split('/').map(raw::escaped).collect::<Vec<_>>().join("/");
    let mut all = vec![
        escaped.clone(),
        escaped.replace('%', "%25"),
        format!("/%{:02X}{}", path.as_bytes()[1], &path[2..]),
        format!("/{path}"),
        path.replace('/', "//"),
        path.replace('/', "/./"),
        path.replace('/', "/%2e/"),
        path.replace('/', "\\"),
        path.replace('/', "%5c"),
        format!("/{}", path[1..].replace('/', "%2f")),
        format!("{path};a=b"),
        format!("/{first};a=b{rest}"),
        format!("{path}%00"),
        format!("{path}%20"),
        format!("{path}%0d%0aX-Tatami-Caller:%20x"),
        format!("{path}#x"),
        path.to_uppercase(),
        path.replacen('/', "/%c0%af", 1),
        path.replacen('/', "/%ef%bc%8f", 1),
        format!("http://{first}{path}"),
        format!("http:/{path}"),
        format!("/internal{path}"),
    ];
    // From what is public or somebody else's, upwards.
    for before in [
        "/auth",
        "/auth/password",
        "/socket.io",
        "/kafka-ws/v1/topics",
        "/device",
        "/auth/.well-known/jwks.json",
        "/nowhere",
    ] {
        for up in ["..", "%2e%2e", ".%2e", "..;", "..;x", "..%00", "%252e%252e", "..%2f", "..%5c", "..%c0%af"]
        {
            let depth = before.matches('/').count();
            all.push(format!("{before}{}{path}", format!("/{up}").repeat(depth)));
        }
    }
    all.into_iter().map(|spelling| format!("{spelling}{query}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_reaches_more_than_the_path_that_it_means() {
    let stack = Stack::start(Kind::Embedded).await;
    let admin = stack.admin().await;
    let world = World::new(&stack, &admin, 0).await;
    let protected: Vec<_> =
        Request::all().into_iter().filter(|request| request.door.access != "public").collect();
    let mut count = 0;
    for request_of in &protected {
        let method = request_of.method();
        for spelling in spellings(&world.path(request_of)) {
            // Who may do nothing may do nothing by any name, and nobody even less.
            let with_slash = format!("{} {spelling}", method.as_str());
            for (token, allowed) in
                [("", &[400, 401, 404][..]), (world.powerless.token.as_str(), &[400, 403, 404])]
            {
                let (status, body) = request(stack.gateway, method.as_str(), &spelling, &bearer(token)).await;
                let is_refresh = request_of.door.access == "token" && !token.is_empty() && status == 200;
                let is_public = status == 405 && body.contains("Method Not Allowed");
                assert!(
                    allowed.contains(&status) || is_refresh || is_public,
                    "{with_slash}: {status} {body}"
                );
                let shown = world
                    .secrets()
                    .into_iter()
                    .find(|secret| !spelling.contains(secret) && body.contains(secret));
                assert!(shown.is_none() || is_refresh, "{with_slash} shows {shown:?}: {body}");
                count += 1;
            }
        }
    }
    println!("{count} requests for {} endpoints", protected.len());
    let device = world.thing("device");
    assert_eq!(world.owner.status(&format!("/device/{device}")).await.as_u16(), 200, "nothing was removed");
}
