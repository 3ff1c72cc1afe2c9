//! The route table: what exists, through which surface, and what it asks of the caller.
//!
//! Owns the list that the server, the OpenAPI document and the access test are all made from. An API route takes its
//! method and path from its `#[utoipa::path]`, so it cannot exist undocumented.

use std::{collections::BTreeMap, sync::Arc};

use actix_web::{Handler, Responder, http::Method, middleware::from_fn, web};

use super::door::{self, DoorKind};
use crate::principal::Permission;

/// Which kind of door a route is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// HTML for people: session cookie, CSRF.
    Page,
    /// JSON for programs: API key.
    Api,
    /// Neither: static files, health, metrics. Always public.
    Open,
}

/// One route.
pub struct Entry {
    pub method: Method,
    pub path: String,
    pub permission: Permission,
    pub surface: Surface,
    build: Box<dyn Fn(Method) -> actix_web::Route + Send + Sync>,
}

/// All routes of the appliance.
#[derive(Default)]
pub struct Routes {
    entries: Vec<Entry>,
    openapi: super::openapi::Document,
}

impl Routes {
    /// A page or a form's target.
    pub fn page<F, Args>(&mut self, method: Method, path: &str, permission: Permission, handler: F)
    where
        F: Handler<Args> + Send + Sync,
        Args: actix_web::FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.add(method, path.to_owned(), permission, Surface::Page, handler);
    }

    /// `GET` of a page.
    pub fn get<F, Args>(&mut self, path: &str, permission: Permission, handler: F)
    where
        F: Handler<Args> + Send + Sync,
        Args: actix_web::FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.page(Method::GET, path, permission, handler);
    }

    /// `POST` of a form.
    pub fn post<F, Args>(&mut self, path: &str, permission: Permission, handler: F)
    where
        F: Handler<Args> + Send + Sync,
        Args: actix_web::FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.page(Method::POST, path, permission, handler);
    }

    /// An API operation; `P` is the type that `#[utoipa::path]` made beside the handler (`__path_<handler>`).
    pub fn api<P, F, Args>(&mut self, permission: Permission, handler: F)
    where
        P: utoipa::Path + utoipa::__dev::SchemaReferences,
        F: Handler<Args> + Send + Sync,
        Args: actix_web::FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        for method in P::methods() {
            let method = match method {
                utoipa::openapi::HttpMethod::Post => Method::POST,
                utoipa::openapi::HttpMethod::Delete => Method::DELETE,
                utoipa::openapi::HttpMethod::Put => Method::PUT,
                utoipa::openapi::HttpMethod::Patch => Method::PATCH,
                _ => Method::GET,
            };
            self.add(method, P::path(), permission, Surface::Api, handler.clone());
        }
        self.openapi.add::<P>(permission);
    }

    /// A public route outside both doors.
    pub fn open<F, Args>(&mut self, path: &str, handler: F)
    where
        F: Handler<Args> + Send + Sync,
        Args: actix_web::FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.add(Method::GET, path.to_owned(), Permission::Public, Surface::Open, handler);
    }

    fn add<F, Args>(&mut self, method: Method, path: String, permission: Permission, surface: Surface, handler: F)
    where
        F: Handler<Args> + Send + Sync,
        Args: actix_web::FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let kind = match surface {
            Surface::Page => DoorKind::Page,
            Surface::Api => DoorKind::Api,
            Surface::Open => DoorKind::Open,
        };
        let build = move |method| {
            web::method(method)
                .to(handler.clone())
                .wrap(from_fn(move |request, next| door::pass(kind, permission, request, next)))
        };
        self.entries.push(Entry { method, path, permission, surface, build: Box::new(build) });
    }

    /// The table, for the access test and the documentation.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The OpenAPI document as JSON.
    pub fn openapi_json(&self) -> String {
        self.openapi.to_json()
    }

    /// Registers everything with one worker.
    pub fn configure(self: &Arc<Self>, app: &mut web::ServiceConfig) {
        let mut by_path: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in &self.entries {
            by_path.entry(&entry.path).or_default().push(entry);
        }
        // Fixed paths before patterns: `/directories/new` must not be read as an id.
        let mut paths: Vec<_> = by_path.into_iter().collect();
        paths.sort_by_key(|(path, _)| (path.matches('{').count(), *path));
        for (path, entries) in paths {
            let mut resource = web::resource(path.to_owned());
            let mut allowed: Vec<&str> = entries.iter().map(|entry| entry.method.as_str()).collect();
            allowed.sort_unstable();
            let allowed = allowed.join(", ");
            for entry in entries {
                resource = resource.route((entry.build)(entry.method.clone()));
                if entry.method == Method::GET {
                    // HEAD is GET without the body, which the server leaves out (RFC 9110 §9.3.2).
                    resource = resource.route((entry.build)(Method::HEAD));
                }
            }
            app.service(resource.default_service(web::to(move || {
                let allowed = allowed.clone();
                async move { actix_web::HttpResponse::MethodNotAllowed().insert_header(("allow", allowed)).finish() }
            })));
        }
    }
}
