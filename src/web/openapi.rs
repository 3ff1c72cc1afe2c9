//! The OpenAPI document: grows with every API route, so that it is complete by construction.

use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Paths, RefOr, Response, ResponseBuilder,
    schema::{ObjectBuilder, Schema, SchemaType, Type},
    security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme},
};

use crate::principal::Permission;

#[derive(Default)]
pub(super) struct Document {
    paths: Paths,
    schemas: Vec<(String, RefOr<Schema>)>,
}

fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).description(Some(description))
}

fn error(description: &str) -> Response {
    ResponseBuilder::new()
        .description(description)
        .content(
            "application/json",
            ContentBuilder::new().schema(Some(utoipa::openapi::Ref::from_schema_name("Error"))).build(),
        )
        .build()
}

impl Document {
    pub(super) fn add<P: utoipa::Path + utoipa::__dev::SchemaReferences>(&mut self, permission: Permission) {
        let mut operation = P::operation();
        let responses = &mut operation.responses.responses;
        let mut answer = |code: &str, description: &str| {
            responses.entry(code.to_owned()).or_insert_with(|| RefOr::T(error(description)));
        };
        answer("400", "The request is malformed.");
        answer("429", "Too many requests; see Retry-After.");
        answer("500", "Our fault; the answer carries the request id.");
        answer("503", "Not available at the moment; see Retry-After.");
        if permission != Permission::Public {
            answer("401", "The API key is missing or not valid.");
            answer("403", "The key's role does not allow this.");
            operation.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("apiKey", [])]);
        }
        if P::path().contains("{id}") {
            answer("404", "Does not exist in this account.");
        }
        if operation.request_body.is_some() {
            answer("409", "The state of the thing does not allow this now.");
            answer("413", "The body is too large.");
            answer("422", "Fields to correct.");
        }
        self.paths.add_path_operation(P::path(), P::methods(), operation);
        P::schemas(&mut self.schemas);
    }

    pub(super) fn to_json(&self) -> String {
        let error = ObjectBuilder::new()
            .property("message", text("What is wrong and what to do, as a sentence."))
            .property(
                "fields",
                ObjectBuilder::new()
                    .description(Some("For 422: field name to what is wrong with it."))
                    .additional_properties(Some(text("What is wrong."))),
            )
            .property("requestId", text("For 500: what the administrator finds in the log."))
            .required("message");
        let mut components = ComponentsBuilder::new().schema("Error", error).security_scheme(
            "apiKey",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                "Authorization",
                "`ApiKey <id>:<secret>`, as `bailiwick admin create-api-key` prints it.",
            ))),
        );
        for (name, schema) in &self.schemas {
            components = components.schema(name.clone(), schema.clone());
        }
        let document: OpenApi = OpenApiBuilder::new()
            .info(
                InfoBuilder::new()
                    .title("Bailiwick")
                    .version("v1")
                    .description(Some("Identities, groups, directories and the audit log of one account."))
                    .build(),
            )
            .paths(self.paths.clone())
            .components(Some(components.build()))
            .build();
        document.to_json().unwrap_or_else(|error| {
            tracing::error!(%error, "the OpenAPI document could not be written");
            "{}".into()
        })
    }
}
