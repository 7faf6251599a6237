//! `/openapi.json` and `/docs`, a page that shows it without any script.

use std::{fmt::Write, sync::LazyLock};

use axum::response::{Html, IntoResponse};
use http::header;
use serde_json::Value;
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::{cache, error, faults, health, transactions};

/// The shape of every error answer: RFC 9457.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
#[schema(as = Problem)]
pub struct ProblemDocument {
    /// A reference that names the kind of problem.
    #[schema(example = "about:blank")]
    pub r#type: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here.
    pub detail: Option<String>,
    /// The path that it happened at.
    pub instance: Option<String>,
    /// Leads to the trace and the logs.
    pub trace_id: Option<String>,
    /// What is wrong with which field.
    pub errors: Option<Vec<ProblemField>>,
}

/// What is wrong with one field.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct ProblemField {
    /// The field, parameter or header.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        openapi.components.get_or_insert_default().add_security_scheme(
            "faults_token",
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(HttpAuthScheme::Bearer)
                    .description(Some("printed by: ./stack secret faults"))
                    .build(),
            ),
        );
    }
}

/// The service's metrics: Prometheus text, or OpenMetrics with exemplars if `accept` asks for it.
#[utoipa::path(get, path = "/metrics", tag = "operation", operation_id = "metrics",
    responses((status = 200, description = "All metrics", body = String, content_type = "text/plain")))]
#[expect(dead_code, reason = "documents the registry's own handler")]
fn metrics() {}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "transaction-api",
        description = "Payments on Postgres through a simulated gateway. Amounts are integer minor units of an \
                       ISO 4217 currency: 1250 is 12.50 EUR. Every error is an application/problem+json."
    ),
    servers((url = "/")),
    paths(
        transactions::list, transactions::one, transactions::create,
        cache::stats, cache::clear,
        health::health, metrics, error::error,
        faults::list, faults::put, faults::delete,
        document, page
    ),
    components(schemas(ProblemDocument)),
    modifiers(&Token),
    tags(
        (name = "transactions", description = "Taking and reading payments"),
        (name = "cache", description = "The cache of the list"),
        (name = "operation", description = "Health, metrics, and an endpoint that always fails"),
        (name = "faults", description = "Breaking the service on purpose"),
        (name = "documentation", description = "This document"),
    )
)]
struct Document;

/// The OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

static JSON: LazyLock<String> = LazyLock::new(|| openapi().to_pretty_json().unwrap_or_default());
static PAGE: LazyLock<String> = LazyLock::new(|| render(&serde_json::from_str(&JSON).unwrap_or_default()));

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "documentation", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
pub async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], JSON.as_str())
}

/// A page that shows it.
#[utoipa::path(get, path = "/docs", tag = "documentation", operation_id = "docs",
    responses((status = 200, description = "A page without scripts or external parts", content_type = "text/html")))]
pub async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(PAGE.as_str()))
}

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8882}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h2{margin-top:2.5rem}code,pre{font-family:ui-monospace,monospace;font-size:.9em}\
pre{background:var(--soft);padding:.75rem;border-radius:.4rem;overflow-x:auto}\
details{border:1px solid var(--line);border-radius:.4rem;margin:.5rem 0;padding:.4rem .8rem}\
summary{cursor:pointer}summary b{display:inline-block;min-width:4.5em}\
table{border-collapse:collapse;display:block;overflow-x:auto}td,th{border-bottom:1px solid var(--line);\
padding:.25rem .75rem .25rem 0;text-align:left;vertical-align:top}";

/// The document as HTML: operations by tag, then the schemas.
fn render(document: &Value) -> String {
    let mut out = String::with_capacity(32 * 1024);
    let _ = write_page(&mut out, document);
    out
}

fn write_page(out: &mut String, document: &Value) -> std::fmt::Result {
    let info = &document["info"];
    write!(
        out,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>{title}</title><style>{STYLE}</style><h1>{title} <small>{version}</small></h1><p>{description}</p>\
         <p><a href=openapi.json>openapi.json</a></p><pre>curl -X POST localhost:8000/transactions/create\n\
         curl 'localhost:8000/transactions?limit=5&amp;status=declined'</pre>",
        title = text(&info["title"]),
        version = text(&info["version"]),
        description = text(&info["description"]),
    )?;
    for tag in document["tags"].as_array().into_iter().flatten() {
        write!(out, "<h2>{}</h2><p>{}</p>", text(&tag["name"]), text(&tag["description"]))?;
        for (path, methods) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                if operation["tags"].as_array().is_some_and(|tags| tags.contains(&tag["name"])) {
                    write_operation(out, path, method, operation)?;
                }
            }
        }
    }
    out.push_str("<h2>Schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        write!(
            out,
            "<details id='schema-{0}'><summary><code>{0}</code> {1}</summary>",
            escape(name),
            text(&schema["description"])
        )?;
        write_schema(out, schema)?;
        out.push_str("</details>");
    }
    write!(
        out,
        "<h2>Problem types</h2><p id=idempotency-key-reused><b>idempotency-key-reused</b>: the key belongs to a \
         request with another body. Use a new key.</p><p id=request-in-progress><b>request-in-progress</b>: the first \
         request with this key has not ended. Repeat with the same key.</p><p id=gateway-error><b>gateway-error</b>: \
         the payment gateway broke; nothing was stored and no money was taken. Repeat, with the same key if there is \
         one.</p></html>"
    )
}

fn write_operation(out: &mut String, path: &str, method: &str, operation: &Value) -> std::fmt::Result {
    write!(
        out,
        "<details><summary><b>{}</b> <code>{}</code> {}</summary><p>{}</p>",
        escape(&method.to_ascii_uppercase()),
        escape(path),
        text(&operation["summary"]),
        text(&operation["description"]),
    )?;
    if let Some(parameters) = operation["parameters"].as_array() {
        out.push_str("<table><tr><th>parameter<th>in<th>type<th>meaning</tr>");
        for parameter in parameters {
            write!(
                out,
                "<tr><td><code>{}</code><td>{}<td>{}<td>{}</tr>",
                text(&parameter["name"]),
                text(&parameter["in"]),
                kind(&parameter["schema"]),
                text(&parameter["description"]),
            )?;
        }
        out.push_str("</table>");
    }
    if let Some(body) = operation["requestBody"]["content"].as_object() {
        for (mime, content) in body {
            write!(out, "<p>body: {} ({})</p>", kind(&content["schema"]), escape(mime))?;
        }
    }
    out.push_str("<table><tr><th>status<th>meaning<th>body</tr>");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let body = response["content"].as_object().and_then(|content| content.values().next());
        write!(
            out,
            "<tr><td>{}<td>{}<td>{}</tr>",
            escape(status),
            text(&response["description"]),
            body.map(|body| kind(&body["schema"])).unwrap_or_default(),
        )?;
    }
    out.push_str("</table></details>");
    Ok(())
}

fn write_schema(out: &mut String, schema: &Value) -> std::fmt::Result {
    let Some(properties) = schema["properties"].as_object() else {
        return write!(out, "<p>{}</p>", kind(schema));
    };
    let required = schema["required"].as_array();
    out.push_str("<table><tr><th>field<th>type<th>meaning</tr>");
    for (name, property) in properties {
        let star = if required.is_some_and(|names| names.iter().any(|n| n == name)) { "*" } else { "" };
        write!(
            out,
            "<tr><td><code>{}</code>{star}<td>{}<td>{}</tr>",
            escape(name),
            kind(property),
            text(&property["description"]),
        )?;
    }
    out.push_str("</table><p>* always there</p>");
    Ok(())
}

/// A schema's type in a few words, with a link if it has a name.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("<a href='#schema-{0}'>{0}</a>", escape(name));
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|v| format!("<code>{}</code>", text(v))).collect::<Vec<_>>().join(" | ");
    }
    if let Some(any) = schema["oneOf"].as_array() {
        return any.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if schema["items"].is_object() {
        return format!("array of {}", kind(&schema["items"]));
    }
    let mut told = match &schema["type"] {
        Value::Array(any) => any.iter().map(text).collect::<Vec<_>>().join(" or "),
        one => text(one),
    };
    for (name, word) in [("format", ""), ("minimum", "from "), ("maximum", "to "), ("maxLength", "up to ")] {
        if !schema[name].is_null() {
            told.push_str(&format!(", {word}{}", text(&schema[name])));
        }
    }
    told
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => escape(text),
        other => escape(&other.to_string()),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_operation_and_needs_nothing_else() {
        let document: Value = serde_json::from_str(&JSON).unwrap();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                let shown = format!("<b>{}</b> <code>{}</code>", method.to_uppercase(), escape(path));
                assert!(PAGE.contains(&shown), "{shown}");
            }
        }
        assert!(!PAGE.contains("<script") && !PAGE.contains("src=") && !PAGE.contains("http://"));
        for kind in ["idempotency-key-reused", "request-in-progress", "gateway-error"] {
            assert!(PAGE.contains(&format!("id={kind}")));
        }
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}
