use std::collections::BTreeSet;

use serde_json::Value;
use telemetry::Runtime;
use transaction_api::{App, config::Config, faults::Hooks, http};

use crate::support::TestApp;

#[test]
fn the_document_is_as_reviewed() {
    let mut document = http::openapi();
    document.info.version = "(of the build)".to_owned();
    let text = document.to_pretty_json().unwrap();
    let parsed: Value = serde_json::from_str(&text).unwrap();
    for reference in text.lines().filter_map(|line| line.trim().strip_prefix("\"$ref\": \"#")) {
        let pointer = reference.split('"').next().unwrap();
        assert!(parsed.pointer(pointer).is_some(), "{pointer} is not there");
    }
    insta::assert_snapshot!("openapi", text);
}

#[tokio::test]
async fn every_route_is_in_the_document_and_nothing_else() {
    let config: Config = telemetry::config::parse(["transaction-api".into()]).unwrap();
    let app = App::build(&config, &Runtime::for_test(), Hooks::default()).unwrap();
    let routes: BTreeSet<(String, String)> = http::routes(&app)
        .iter()
        .flat_map(|route| route.methods.iter().map(|method| (route.path.to_owned(), (*method).to_owned())))
        .collect();
    let document: Value = serde_json::from_str(&http::openapi().to_json().unwrap()).unwrap();
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |m| (path.clone(), m.clone())))
        .collect();
    assert_eq!(routes, documented);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_and_its_page_are_served() {
    let app = TestApp::new().await;
    let document = app.json("/openapi.json").await;
    assert_eq!(document["info"]["title"], "transaction-api");
    let page = app.get("/docs").send().await.unwrap();
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    assert!(page.text().await.unwrap().contains("/transactions/create"));
    // Every documented route answers something else than "unknown".
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{id}", "0190b0a0-0000-7000-8000-000000000000");
            let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let response = app.request(method.clone(), &path).send().await.unwrap();
            let text = response.text().await.unwrap();
            assert!(!text.contains("no such resource") && !text.contains("not possible here"), "{method} {path}");
        }
    }
}
