//! The route table: what exists, through which surface, and what it asks of the caller.
//!
//! Owns the list that the server, the OpenAPI document and the access test are all made from. An API route takes its
//! method and path from its `#[utoipa::path]`, so it cannot exist undocumented.

use std::{collections::BTreeMap, sync::Arc};

use actix_web::{Handler, HttpRequest, Responder, dev::Payload, http::Method, middleware::from_fn, web};

use super::{
    api_road::{Item, Show},
    door::{self, DoorKind, Passage},
    step_up::Again,
};
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
    /// Whether its user is asked again that it is them. Pages only: a key has nothing to prove it with, so the API never asks;
    /// what a key may do is limited when it is made.
    pub again: Option<Again>,
    /// The query parameters that an API operation takes.
    query: Vec<String>,
    /// Answers a list, not one item.
    is_list: bool,
    build: Box<dyn Fn(Method, Arc<Passage>) -> actix_web::Route + Send + Sync>,
    show: Show,
}

/// A page that was just added, to say more about it.
pub struct Added<'a>(Option<&'a mut Entry>);

impl Added<'_> {
    /// What it does is dangerous: whoever wants it has proved within the last 15 minutes that it is them, or is asked to.
    pub fn asks_again(self) {
        if let Some(entry) = self.0 {
            entry.again = Some(Again::Aged);
        }
    }

    /// The same with every single request, however long ago the last proof is. Forms only.
    pub fn asks_each_time(self) {
        if let Some(entry) = self.0 {
            entry.again = Some(Again::EachTime);
        }
    }
}

/// All routes of the appliance.
#[derive(Default)]
pub struct Routes {
    entries: Vec<Entry>,
    openapi: super::openapi::Document,
}

impl Routes {
    /// A page or a form's target.
    pub fn page<F, Args>(&mut self, method: Method, path: &str, permission: Permission, handler: F) -> Added<'_>
    where
        F: Handler<Args> + Send + Sync,
        Args: actix_web::FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.add(method, path.to_owned(), permission, Surface::Page, handler);
        Added(self.entries.last_mut())
    }

    /// `GET` of a page.
    pub fn get<F, Args>(&mut self, path: &str, permission: Permission, handler: F) -> Added<'_>
    where
        F: Handler<Args> + Send + Sync,
        Args: actix_web::FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.page(Method::GET, path, permission, handler)
    }

    /// `POST` of a form.
    pub fn post<F, Args>(&mut self, path: &str, permission: Permission, handler: F) -> Added<'_>
    where
        F: Handler<Args> + Send + Sync,
        Args: actix_web::FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.page(Method::POST, path, permission, handler)
    }

    /// An API operation; `P` is the type that `#[utoipa::path]` made beside the handler (`__path_<handler>`).
    pub fn api<P, F, Args>(&mut self, permission: Permission, handler: F)
    where
        P: utoipa::Path + utoipa::__dev::SchemaReferences + utoipa::__dev::Tags<'static>,
        F: Handler<Args> + Send + Sync,
        Args: actix_web::FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let added = self.openapi.add::<P>(permission);
        for method in P::methods() {
            let method = match method {
                utoipa::openapi::HttpMethod::Post => Method::POST,
                utoipa::openapi::HttpMethod::Delete => Method::DELETE,
                utoipa::openapi::HttpMethod::Put => Method::PUT,
                utoipa::openapi::HttpMethod::Patch => Method::PATCH,
                _ => Method::GET,
            };
            self.add(method, P::path(), permission, Surface::Api, handler.clone());
            if let Some(entry) = self.entries.last_mut() {
                entry.query.clone_from(&added.query);
                entry.is_list = added.is_list;
            }
        }
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
        let shown = handler.clone();
        let show: Show = Arc::new(move |request: HttpRequest| {
            let handler = shown.clone();
            Box::pin(async move {
                let read = Args::from_request(&request, &mut Payload::None).await;
                match read {
                    Ok(args) => handler.call(args).await.respond_to(&request).map_into_boxed_body(),
                    Err(error) => actix_web::HttpResponse::from_error(error),
                }
            })
        });
        let build = move |method, passage: Arc<Passage>| {
            web::method(method)
                .to(handler.clone())
                .wrap(from_fn(move |request, next| door::pass(passage.clone(), request, next)))
        };
        let build = Box::new(build);
        let (again, query) = (None, Vec::new());
        self.entries.push(Entry { method, path, permission, surface, again, query, is_list: false, build, show });
    }

    /// What `If-Match` is compared with on this route: what `GET` shows of the item that it is, or is below.
    fn item(&self, entry: &Entry) -> Option<Item> {
        let path = match entry.path.find("{id}") {
            Some(at) => entry.path.get(..at + "{id}".len())?,
            None => entry.path.as_str(),
        };
        let shows = |other: &&Entry| {
            other.surface == Surface::Api && other.method == Method::GET && other.path == path && !other.is_list
        };
        let found = self.entries.iter().find(shows).filter(|_| entry.surface == Surface::Api)?;
        Some(Item { show: found.show.clone(), permission: found.permission })
    }

    fn passage(&self, entry: &Entry) -> Arc<Passage> {
        let kind = match entry.surface {
            Surface::Page => DoorKind::Page,
            Surface::Api => DoorKind::Api,
            Surface::Open => DoorKind::Open,
        };
        let item = self.item(entry).filter(|_| entry.method != Method::GET);
        let (permission, again, query) = (entry.permission, entry.again, entry.query.clone());
        Arc::new(Passage { kind, permission, again, query, item })
    }

    /// The table, for the access test and the documentation.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Names that two schemas of the OpenAPI document share; there must be none.
    pub fn clashes(&self) -> &[String] {
        self.openapi.clashes()
    }

    /// The OpenAPI document.
    pub fn openapi(&self) -> serde_json::Value {
        self.openapi.finish(|method, path| {
            let is_it = |entry: &&Entry| {
                entry.surface == Surface::Api
                    && entry.path == path
                    && entry.method.as_str().eq_ignore_ascii_case(method)
            };
            self.entries.iter().find(is_it).is_some_and(|entry| self.item(entry).is_some())
        })
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
                let passage = self.passage(entry);
                resource = resource.route((entry.build)(entry.method.clone(), passage.clone()));
                if entry.method == Method::GET {
                    // HEAD is GET without the body, which the server leaves out (RFC 9110 §9.3.2).
                    resource = resource.route((entry.build)(Method::HEAD, passage));
                }
            }
            app.service(resource.default_service(web::to(move || {
                let allowed = allowed.clone();
                async move { actix_web::HttpResponse::MethodNotAllowed().insert_header(("allow", allowed)).finish() }
            })));
        }
    }
}
