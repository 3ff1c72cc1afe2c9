//! The OpenAPI document: grows with every API route, so that it is complete by construction.
//!
//! A room documents what is its own: parameters, body, the answer of success. Everything that the road does for every
//! route (errors, versions, rates, idempotency, entity tags, the envelope of lists) is added here, once, so that no
//! operation can forget it. Where a rule can be read off a route, it is: a `GET` that answers an array is a list, and the
//! list is called as its path ends.

use serde_json::{Map, Value, json};

use super::{
    input::{CURSOR_CHARS_MAX, QUERY_CHARS_MAX},
    paging,
};
use crate::principal::Permission;

/// Text without control characters, as a pattern.
const NO_CONTROLS: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

struct Operation {
    path: String,
    methods: Vec<&'static str>,
    /// As in the document.
    value: Value,
    permission: Permission,
}

#[derive(Default)]
pub(super) struct Document {
    operations: Vec<Operation>,
    schemas: Map<String, Value>,
    clashes: Vec<String>,
}

/// What the road makes of an operation.
pub(super) struct Added {
    /// The names of its query parameters.
    pub query: Vec<String>,
    pub is_list: bool,
}

/// The schema of an answer's JSON body.
fn schema_of<'a>(operation: &'a Value, status: &str) -> Option<&'a Value> {
    operation.pointer(&format!("/responses/{status}/content/application~1json/schema"))
}

impl Document {
    pub(super) fn add<P>(&mut self, permission: Permission) -> Added
    where
        P: utoipa::Path + utoipa::__dev::SchemaReferences + utoipa::__dev::Tags<'static>,
    {
        let mut value = json_of(&P::operation());
        // A file holds everything: it has no pages, though it is narrowed by the same type as the list.
        if P::path().rsplit('/').next().is_some_and(|last| last.contains('.'))
            && let Some(parameters) = value.get_mut("parameters").and_then(Value::as_array_mut)
        {
            parameters.retain(|parameter| parameter["name"] != "limit" && parameter["name"] != "cursor");
        }
        set(&mut value, "tags", json!(P::tags()));
        let methods = P::methods().into_iter().map(|method| match method {
            utoipa::openapi::HttpMethod::Post => "post",
            utoipa::openapi::HttpMethod::Delete => "delete",
            utoipa::openapi::HttpMethod::Put => "put",
            utoipa::openapi::HttpMethod::Patch => "patch",
            _ => "get",
        });
        let parameters = list_of(&value, "parameters").iter();
        let query = parameters.filter(|parameter| parameter["in"] == "query");
        let query = query.filter_map(|parameter| parameter["name"].as_str().map(str::to_owned)).collect();
        let is_list = schema_of(&value, "200").is_some_and(|schema| schema["type"] == "array");
        self.operations.push(Operation { path: P::path(), methods: methods.collect(), value, permission });
        let mut schemas = Vec::new();
        P::schemas(&mut schemas);
        for (name, schema) in schemas {
            let schema = json_of(&schema);
            match self.schemas.get(&name) {
                Some(known) if *known != schema => self.clashes.push(name),
                _ => drop(self.schemas.insert(name, schema)),
            }
        }
        Added { query, is_list }
    }

    /// Names that two different schemas have; one of them needs `#[schema(as = …)]`.
    pub(super) fn clashes(&self) -> &[String] {
        &self.clashes
    }

    /// The whole document. `has_item` says whether `If-Match` can be compared on a route.
    pub(super) fn finish(&self, has_item: impl Fn(&str, &str) -> bool) -> Value {
        let mut paths: Map<String, Value> = Map::new();
        let mut tags: Vec<String> = Vec::new();
        for operation in &self.operations {
            let tag = tag_of(&operation.value).to_owned();
            if !tags.contains(&tag) {
                tags.push(tag);
            }
            for method in &operation.methods {
                let value = finished(operation, method, has_item(method, &operation.path));
                let slot = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
                if let Some(slot) = slot.as_object_mut() {
                    slot.insert((*method).to_owned(), value);
                }
            }
        }
        tags.sort();
        let mut schemas = self.schemas.clone();
        schemas.insert("Error".into(), error_schema());
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Bailiwick",
                "version": "v1",
                "description": "Identities, groups, directories, actions on accounts, and the audit log of one account. A signed-in user reads how to use it at /docs/api.",
                "license": {"name": "AGPL-3.0-or-later", "identifier": "AGPL-3.0-or-later"},
            },
            "servers": [{"url": "/", "description": "This appliance"}],
            "tags": tags.into_iter().map(|tag| json!({"name": tag})).collect::<Vec<_>>(),
            "paths": paths,
            "components": {
                "schemas": schemas,
                "headers": headers(),
                "securitySchemes": {"apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`ApiKey <id>:<secret>`, as the console and `bailiwick admin create-api-key` show it once.",
                }},
            },
        })
    }
}

fn tag_of(operation: &Value) -> &str {
    operation.pointer("/tags/0").and_then(Value::as_str).unwrap_or_default()
}

fn text_of<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list_of<'a>(object: &'a Value, name: &str) -> &'a [Value] {
    object.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

fn json_of(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a part of the OpenAPI document could not be written");
        Value::Null
    })
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "description": "What every answer of 4xx and 5xx is.",
        "required": ["message"],
        "additionalProperties": false,
        "properties": {
            "message": {"type": "string", "description": "What is wrong and what to do, as a sentence."},
            "fields": {
                "type": "object",
                "description": "With 422: the name of each wrong field, and what is wrong with it.",
                "additionalProperties": {"type": "string"},
            },
            "requestId": {"type": "string", "description": "With 500: what the administrator finds in the log."},
        },
    })
}

fn headers() -> Value {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    json!({
        "ETag": {
            "description": "Names exactly this answer; for `If-Match` and `If-None-Match`.",
            "schema": {"type": "string", "pattern": "^\"[!#-~]+\"$"},
        },
        "RateLimit": text("`\"default\";r=…;t=…`: requests left now, and seconds until all are there again."),
        "RateLimit-Policy": text("`\"default\";q=…;w=60`: requests in 60 seconds."),
        "Retry-After": {
            "description": "Seconds to wait.",
            "schema": {"type": "integer", "minimum": 1},
        },
        "Idempotent-Replayed": {
            "description": "The answer was given before, to a request with the same Idempotency-Key.",
            "schema": {"type": "string", "enum": ["true"]},
        },
        "X-Request-Id": text("What the administrator finds in the log."),
        "Location": text("Where it is to be found."),
    })
}

fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

/// `/api/task-requests` → `taskRequests`, `/api/runs/{id}/changes.json` → `changes`.
fn collection(path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or_default().split('.').next().unwrap_or_default();
    let mut words = last.split('-');
    let mut name = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

/// How a permission is written in the document.
fn permission_text(permission: Permission) -> String {
    match permission {
        Permission::Needs(service, level) | Permission::InPart(service, level) => {
            format!("{}: {}", service.as_str(), level.as_str())
        }
        Permission::Everything => "everything: full".into(),
        Permission::Public => "none".into(),
        Permission::SignedIn => "any role".into(),
        Permission::OwnUser | Permission::Owner => "a user of the console".into(),
    }
}

fn parameter(name: &str, description: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "header", "required": false, "description": description, "schema": schema})
}

/// A query parameter is there or not there: there is no null in a query.
fn without_null(schema: &mut Value) {
    let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) else {
        if let Some(other) = schema["oneOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null")) {
            *schema = other.clone();
        }
        return;
    };
    types.retain(|one| one != "null");
    if let [one] = types.as_slice() {
        let one = one.clone();
        set(schema, "type", one);
    }
}

fn parameters(operation: &Operation, method: &str, has_item: bool, answers_json: bool) -> Vec<Value> {
    let mut all = list_of(&operation.value, "parameters").to_vec();
    for parameter in all.iter_mut().filter(|parameter| parameter["in"] == "query") {
        if let Some(schema) = parameter.get_mut("schema") {
            without_null(schema);
        }
        if parameter["name"] == "limit" {
            let (most, usual) = (paging::LIMIT_MAX, paging::LIMIT_DEFAULT);
            set(parameter, "schema", json!({"type": "integer", "minimum": 0, "maximum": most, "default": usual}));
            set(parameter, "description", "Items in one answer; 0 and absent mean 25.".into());
        } else if parameter["name"] == "cursor" {
            set(parameter, "schema", json!({"type": "string", "format": "cursor", "maxLength": CURSOR_CHARS_MAX}));
            set(parameter, "description", "The `next` of the answer before, as it is.".into());
        }
        if let Some(schema) = parameter.get_mut("schema").and_then(Value::as_object_mut)
            && schema.get("type").is_some_and(|kind| kind == "string")
        {
            schema.entry("maxLength").or_insert_with(|| QUERY_CHARS_MAX.into());
            if !schema.contains_key("format") {
                schema.entry("pattern").or_insert_with(|| NO_CONTROLS.into());
            }
        }
    }
    all.push(parameter(
        "Api-Version",
        "Absent means `v1`, which is all there is.",
        &json!({"type": "string", "enum": ["v1"]}),
    ));
    if method == "post" {
        all.push(parameter(
            "Idempotency-Key",
            "One word of your own making for this request: sent again within 24 hours, it is answered again and not carried out again.",
            &json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$", "format": "idempotency-key"}),
        ));
    }
    if has_item && method != "get" {
        all.push(parameter(
            "If-Match",
            "The `ETag` of the item as you know it: 412 when it is not like that any more, and nothing is changed.",
            &json!({"type": "string", "pattern": "^(\\*|(W/)?\"[!#-~]*\")$", "format": "entity-tag"}),
        ));
    }
    if answers_json && method == "get" {
        all.push(parameter(
            "If-None-Match",
            "An `ETag` that you have the answer of: 304 without a body when it is still the same.",
            &json!({"type": "string"}),
        ));
    }
    all
}

fn finished(operation: &Operation, method: &str, has_item: bool) -> Value {
    let mut value = operation.value.clone();
    let is_json = |status: &str| schema_of(&operation.value, status).is_some();
    let parameters = parameters(operation, method, has_item, is_json("200"));
    let is_paged = parameters.iter().any(|parameter| parameter["name"] == "cursor");
    let has_id = operation.path.contains("{id}");
    let id = format!("{}_{}", tag_of(&value), text_of(&value, "operationId"));
    set(&mut value, "parameters", Value::Array(parameters));
    set(&mut value, "operationId", id.into());
    set(&mut value, "x-permission", permission_text(operation.permission).into());
    if operation.permission != Permission::Public {
        set(&mut value, "security", json!([{"apiKey": []}]));
    }
    let Some(responses) = value.get_mut("responses").and_then(Value::as_object_mut) else { return value };
    // A handler that describes an error of its own leaves the body to here: it is the same for all.
    let mut answer = |status: &str, description: &str| {
        let answer = responses.entry(status.to_owned()).or_insert_with(|| json!({"description": description}));
        set(answer, "content", json!({"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}));
    };
    answer("400", "The request cannot be read: JSON, a header, a query parameter, a cursor.");
    answer("401", "The API key is missing or not valid.");
    answer("403", "The key's role does not allow this.");
    // What is changed may be named in the body, too.
    if has_id || method != "get" {
        answer("404", "There is no such thing in this account.");
    }
    if method != "get" {
        answer(
            "409",
            "The state of things does not allow this now, or a request with this Idempotency-Key is going on.",
        );
        answer("413", "The body is larger than 1 MiB.");
    }
    if has_item && method != "get" {
        answer("412", "The item is not, or no longer, as `If-Match` says.");
    }
    answer("422", "Fields to correct; or the Idempotency-Key was used for another request.");
    answer("429", "Too many requests.");
    answer("500", "Our fault; the answer carries the request id.");
    answer("503", "Not available at the moment.");
    if method == "get" && is_json("200") {
        responses.insert("304".into(), json!({"description": "The same as `If-None-Match` names."}));
    }
    if method == "get"
        && let Some(list) =
            responses.get_mut("200").and_then(|answer| answer.pointer_mut("/content/application~1json/schema"))
        && list["type"] == "array"
    {
        let name = collection(&operation.path);
        let mut properties = json!({ &name: list.clone() });
        if is_paged {
            let next = json!({"type": "string", "description": "The cursor of the next page; absent on the last one."});
            set(&mut properties, "next", next);
        }
        *list = json!({"type": "object", "required": [name], "properties": properties});
        let text = if is_paged { "One page of them." } else { "All of them." };
        if let Some(answer) = responses.get_mut("200") {
            set(answer, "description", text.into());
        }
    }
    for (status, answer) in responses.iter_mut() {
        let mut names = vec!["RateLimit", "RateLimit-Policy", "X-Request-Id"];
        match status.as_str() {
            "429" | "503" => names.push("Retry-After"),
            "409" if method == "post" => names.extend(["Retry-After", "Idempotent-Replayed"]),
            "200" | "304" if method == "get" && is_json("200") => names.push("ETag"),
            "201" | "202" => names.extend(["Idempotent-Replayed", "Location"]),
            "200" | "400" | "404" | "412" | "413" | "422" if method == "post" => names.push("Idempotent-Replayed"),
            _ => {}
        }
        // A stranger has no rate to be told.
        names.retain(|name| status != "401" || *name == "X-Request-Id");
        let headers: Map<String, Value> = names.into_iter().map(|name| (name.to_owned(), header(name))).collect();
        let usual = match status.as_str() {
            "201" => "Made.",
            "202" => "Begun.",
            "204" => "Done; there is no body.",
            _ => "As asked for.",
        };
        if let Some(answer) = answer.as_object_mut() {
            let is_said = answer.get("description").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
            if !is_said {
                answer.insert("description".into(), usual.into());
            }
            answer.insert("headers".into(), Value::Object(headers));
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_called_as_its_path_ends() {
        for (path, name) in [
            ("/api/users", "users"),
            ("/api/task-requests", "taskRequests"),
            ("/api/runs/{id}/changes.json", "changes"),
            ("/api/identity-providers", "identityProviders"),
        ] {
            assert_eq!(collection(path), name);
        }
    }

    #[test]
    fn no_null_stands_in_a_query() {
        let check = |mut schema: Value, expected: Value| {
            without_null(&mut schema);
            assert_eq!(schema, expected);
        };
        check(json!({"type": ["integer", "null"], "minimum": 1}), json!({"type": "integer", "minimum": 1}));
        check(json!({"type": "string"}), json!({"type": "string"}));
        check(json!({"oneOf": [{"type": "null"}, {"$ref": "#/x"}]}), json!({"$ref": "#/x"}));
    }
}
