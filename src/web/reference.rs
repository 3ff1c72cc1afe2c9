//! `/docs/api`: the reference of the API, read off the OpenAPI document when the appliance starts.
//!
//! It must never say anything about an operation that the document does not say, so that the page cannot become out of
//! date. What holds for all operations stands in the template.

use actix_web::{HttpResponse, web::Data};
use askama::Template;
use serde_json::Value;

use super::{
    context::{Ctx, Web},
    page::{Page, html},
};
use crate::error::Result;

/// How deep fields of a body are spelt out.
const DEPTH_MAX: usize = 3;

/// One field of a body, or one parameter.
pub(super) struct Field {
    name: String,
    kind: String,
    is_required: bool,
    text: String,
}

pub(super) struct Outcome {
    status: String,
    text: String,
    /// The schema of its body, by name and by anchor.
    schema: Option<(String, String)>,
}

pub(super) struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    permission: String,
    query: Vec<Field>,
    body: Vec<Field>,
    has_body: bool,
    outcomes: Vec<Outcome>,
    curl: String,
}

pub(super) struct Group {
    tag: String,
    operations: Vec<Operation>,
}

pub(super) struct Shape {
    name: String,
    id: String,
    text: String,
    fields: Vec<Field>,
}

/// The whole page, but for its frame.
pub(super) struct Reference {
    groups: Vec<Group>,
    shapes: Vec<Shape>,
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

/// What a `$ref` points at.
fn target<'a>(document: &'a Value, schema: &'a Value) -> (&'a Value, Option<&'a str>) {
    let Some(pointer) = schema["$ref"].as_str() else { return (schema, None) };
    let found = pointer.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
    (found.unwrap_or(schema), pointer.rsplit('/').next())
}

/// Without the alternative null, and whether there was one.
fn nullable(schema: &Value) -> (&Value, bool) {
    let any = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    let Some(any) = any else { return (schema, false) };
    match any.iter().find(|one| one["type"] != "null") {
        Some(one) if any.len() == 2 => (one, true),
        _ => (schema, false),
    }
}

/// A schema in a few words: `text, 1 to 64 characters`, `list of Ability`, `active · locked`.
fn kind(document: &Value, schema: &Value) -> String {
    let (schema, by_choice) = nullable(schema);
    let (found, name) = target(document, schema);
    if let Some(values) = found["enum"].as_array() {
        let words: Vec<_> = values.iter().filter_map(Value::as_str).collect();
        return words.join(" · ") + if by_choice { ", or null" } else { "" };
    }
    let types: Vec<&str> = match &found["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is_nullable = by_choice || types.contains(&"null");
    let bounds = |least: &str, most: &str, unit: &str| {
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        match (found[least].as_i64(), found[most].as_i64()) {
            (Some(least), Some(most)) => format!(", {least} to {most}{unit}"),
            (None, Some(most)) => format!(", at most {most}{unit}"),
            (Some(least), None) => format!(", at least {least}{unit}"),
            (None, None) => String::new(),
        }
    };
    let word = match types.iter().find(|one| **one != "null") {
        Some(&"string") if found["format"].as_str().is_some_and(|format| format.ends_with("date-time")) => {
            "time".into()
        }
        Some(&"string") => format!("text{}", bounds("minLength", "maxLength", "characters")),
        Some(&"integer") => format!("number{}", bounds("minimum", "maximum", "")),
        Some(&"boolean") => "true or false".to_owned(),
        Some(&"array") => format!("list of {}{}", kind(document, &found["items"]), bounds("minItems", "maxItems", "")),
        _ => name.map_or_else(|| "object".to_owned(), str::to_owned),
    };
    if is_nullable { format!("{word}, or null") } else { word }
}

/// The fields of an object; those of objects in it below, as `outer.inner`, `depth` times.
fn fields(document: &Value, schema: &Value, prefix: &str, depth: usize) -> Vec<Field> {
    let (schema, _) = nullable(schema);
    let (found, _) = target(document, schema);
    let mut all = Vec::new();
    for part in found["allOf"].as_array().into_iter().flatten() {
        all.extend(fields(document, part, prefix, depth));
    }
    let required: Vec<&str> = found["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in found["properties"].as_object().into_iter().flatten() {
        let (inner, _) = nullable(property);
        let path = format!("{prefix}{name}");
        let described = if property["description"].is_string() { property } else { target(document, inner).0 };
        all.push(Field {
            name: path.clone(),
            kind: kind(document, property),
            is_required: required.contains(&name.as_str()),
            text: text(described, "description"),
        });
        if depth > 1 && target(document, inner).0["properties"].is_object() {
            all.extend(fields(document, inner, &format!("{path}."), depth - 1));
        }
    }
    all
}

/// A body with a value for every field that is required, for the example.
fn sample(document: &Value, schema: &Value, depth: usize) -> Value {
    let (schema, _) = nullable(schema);
    let (found, _) = target(document, schema);
    if let Some(first) = found["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    match found["type"].as_str() {
        Some("string") => "…".into(),
        Some("integer") => found["minimum"].as_i64().unwrap_or(1).into(),
        Some("boolean") => true.into(),
        Some("array") => Value::Array(vec![sample(document, &found["items"], depth)]),
        _ if depth == 0 => Value::Object(serde_json::Map::new()),
        _ => {
            let properties = found["properties"].as_object();
            let required: Vec<_> =
                found["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let wanted = properties.into_iter().flatten().filter(|(name, _)| required.contains(&name.as_str()));
            wanted.map(|(name, property)| (name.clone(), sample(document, property, depth - 1))).collect()
        }
    }
}

fn curl(document: &Value, method: &str, path: &str, body: Option<&Value>) -> String {
    let mut lines = Vec::new();
    let request = if method == "GET" { String::new() } else { format!(" --request {method}") };
    lines.push(format!("curl{request} \"$BAILIWICK_URL{path}\""));
    lines.push("  --header \"Authorization: ApiKey $BAILIWICK_KEY\"".into());
    if method == "POST" {
        lines.push("  --header \"Idempotency-Key: $(uuidgen)\"".into());
    }
    if let Some(schema) = body {
        lines.push("  --header \"Content-Type: application/json\"".into());
        lines.push(format!("  --data '{}'", sample(document, schema, DEPTH_MAX)));
    }
    lines.join(" \\\n")
}

fn anchor(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// The schema that an answer's body is made of: its own, or that of the list in it.
fn shape_of(schema: &Value) -> Option<(String, String)> {
    let list = schema["properties"].as_object().into_iter().flatten().find(|(_, property)| property["type"] == "array");
    let (schema, is_list) = list.map_or((schema, false), |(_, property)| (&property["items"], true));
    let name = schema["$ref"].as_str()?.rsplit('/').next()?;
    let shown = if is_list { format!("list of {name}") } else { name.to_owned() };
    Some((shown, format!("schema-{}", anchor(name))))
}

fn operation(document: &Value, method: &str, path: &str, value: &Value) -> Operation {
    let method = method.to_uppercase();
    let body = value.pointer("/requestBody/content/application~1json/schema");
    let parameters = value["parameters"].as_array().into_iter().flatten();
    let query = parameters.filter(|parameter| parameter["in"] == "query").map(|parameter| Field {
        name: text(parameter, "name"),
        kind: kind(document, &parameter["schema"]),
        is_required: parameter["required"] == true,
        text: text(parameter, "description"),
    });
    let mut outcomes: Vec<Outcome> = value["responses"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(status, answer)| Outcome {
            status: status.clone(),
            text: text(answer, "description"),
            schema: answer
                .pointer("/content/application~1json/schema")
                .filter(|_| status.starts_with('2'))
                .and_then(shape_of),
        })
        .collect();
    outcomes.sort_by(|a, b| a.status.cmp(&b.status));
    let summary = [text(value, "summary"), text(value, "description")].into_iter().max_by_key(String::len);
    Operation {
        id: anchor(&text(value, "operationId")),
        summary: summary.unwrap_or_default(),
        permission: text(value, "x-permission"),
        query: query.collect(),
        body: body.map(|schema| fields(document, schema, "", DEPTH_MAX)).unwrap_or_default(),
        has_body: body.is_some(),
        outcomes,
        curl: curl(document, &method, path, body),
        method,
        path: path.to_owned(),
    }
}

impl Reference {
    /// From the finished document.
    pub(super) fn new(document: &Value) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for tag in document["tags"].as_array().into_iter().flatten() {
            groups.push(Group { tag: text(tag, "name"), operations: Vec::new() });
        }
        for (path, methods) in document["paths"].as_object().into_iter().flatten() {
            for (method, value) in methods.as_object().into_iter().flatten() {
                let tag = value.pointer("/tags/0").and_then(Value::as_str).unwrap_or_default();
                if let Some(group) = groups.iter_mut().find(|group| group.tag == tag) {
                    group.operations.push(operation(document, method, path, value));
                }
            }
        }
        let mut names: Vec<String> = Vec::new();
        let outcomes = groups.iter().flat_map(|group| &group.operations).flat_map(|operation| &operation.outcomes);
        for (name, _) in outcomes.filter_map(|outcome| outcome.schema.as_ref()) {
            let name = name.strip_prefix("list of ").unwrap_or(name).to_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.sort();
        let shape = |name: String| {
            let schema = document.pointer(&format!("/components/schemas/{name}")).unwrap_or(&Value::Null);
            Shape {
                id: format!("schema-{}", anchor(&name)),
                text: text(schema, "description"),
                fields: fields(document, schema, "", DEPTH_MAX),
                name,
            }
        };
        Self { shapes: names.into_iter().map(shape).collect(), groups }
    }
}

#[derive(Template)]
#[template(path = "docs/api.html")]
struct ReferencePage<'a> {
    page: Page,
    reference: &'a Reference,
    base: String,
    rate: u32,
    curl: &'static str,
    python: &'static str,
}

/// `GET /docs/api`.
pub async fn page(ctx: Ctx, web: Data<Web>) -> Result<HttpResponse> {
    let base = web.gate.base_url().await?.unwrap_or_else(|| "https://bailiwick.example.org".into());
    html(&ReferencePage {
        page: Page::new(&ctx, "API reference", "api-keys"),
        reference: &web.reference,
        base,
        rate: ctx.kernel.config.api_rate_per_minute,
        curl: include_str!("../../static/examples/audit-log.sh"),
        python: include_str!("../../static/examples/audit-log.py"),
    })
}
