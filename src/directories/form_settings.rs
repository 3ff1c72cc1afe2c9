//! The part of a directory's form that differs by kind: its settings.
//!
//! Owns the way from these fields to the settings of each kind and back. What is not in the form stays as the API set it.

use super::{
    form::{Fields, given, is_ticked, lines},
    model::Directory,
};
use crate::{
    connectors::{
        self, Kind, active_directory,
        ldap::settings::Mapping,
        openldap::{self, Preset, Scope, settings::DisableBy},
    },
    error::{FieldError, Result},
};

/// The settings that a form says.
pub(super) enum FormSettings {
    Openldap(openldap::Settings),
    ActiveDirectory(active_directory::Settings),
}

impl FormSettings {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Openldap(_) => Kind::Openldap,
            Self::ActiveDirectory(_) => Kind::ActiveDirectory,
        }
    }

    pub(super) fn check(&self) -> Vec<FieldError> {
        match self {
            Self::Openldap(settings) => settings.check(),
            Self::ActiveDirectory(settings) => settings.check(),
        }
    }

    pub(super) fn json(&self) -> Result<serde_json::Value> {
        Ok(match self {
            Self::Openldap(settings) => serde_json::to_value(settings)?,
            Self::ActiveDirectory(settings) => serde_json::to_value(settings)?,
        })
    }
}

/// The kind that a form is for: a stored directory has its own.
pub(super) fn kind(fields: &Fields, stored: Option<&Directory>) -> Option<Kind> {
    match stored {
        Some(directory) => Some(directory.kind),
        None if fields.kind.is_empty() => Some(Kind::Openldap),
        None => Kind::ALL.into_iter().find(|kind| kind.as_str() == fields.kind),
    }
}

/// The attributes that are tried for each mapped field where the form names none.
pub(super) fn sources(kind: Kind) -> [Vec<String>; 10] {
    Mapping::default().sources(match kind {
        Kind::Openldap => &openldap::settings::DEFAULT_SOURCES,
        Kind::ActiveDirectory => &active_directory::settings::DEFAULT_SOURCES,
    })
}

fn text(part: Option<&String>) -> String {
    part.cloned().unwrap_or_default()
}

fn tick(is_set: bool) -> String {
    if is_set { "on".into() } else { String::new() }
}

fn tls(start_tls: bool, accept_plaintext: bool) -> String {
    match (start_tls, accept_plaintext) {
        (true, _) => "starttls",
        (false, true) => "plain",
        (false, false) => "ldaps",
    }
    .to_owned()
}

/// Fills the fields with the settings of a stored directory.
pub(super) fn fill(fields: &mut Fields, directory: &Directory) {
    fields.kind = directory.kind.as_str().to_owned();
    let mapping = match directory.kind {
        Kind::Openldap => {
            let settings: openldap::Settings = connectors::stored(&directory.settings).unwrap_or_default();
            fields.servers = settings.servers.join("\n");
            fields.tls = tls(settings.start_tls, settings.accept_plaintext);
            fields.accept_plaintext = tick(settings.accept_plaintext);
            fields.ca_pem = text(settings.ca_pem.as_ref());
            fields.base_dns = settings.base_dns.join("\n");
            fields.user_base_dns = settings.user_base_dns.join("\n");
            fields.group_base_dns = settings.group_base_dns.join("\n");
            fields.scope = if settings.scope == Scope::One { "one".into() } else { "sub".into() };
            fields.preset = settings.preset.as_str().into();
            fields.user_filter = text(settings.user_filter.as_ref());
            fields.group_filter = text(settings.group_filter.as_ref());
            if let Some(by) = settings.disable_by {
                fields.disable_attribute = by.attribute;
                fields.disabled_value = by.disabled;
                fields.enabled_value = by.enabled.unwrap_or_default();
            }
            settings.mapping
        }
        Kind::ActiveDirectory => {
            let settings: active_directory::Settings = connectors::stored(&directory.settings).unwrap_or_default();
            fields.servers = settings.servers.join("\n");
            fields.domain = text(settings.domain.as_ref());
            fields.site = text(settings.site.as_ref());
            fields.dns_servers = settings.dns_servers.join("\n");
            fields.global_catalog = tick(settings.global_catalog);
            fields.tls = tls(settings.start_tls, settings.accept_plaintext);
            fields.accept_plaintext = tick(settings.accept_plaintext);
            fields.ca_pem = text(settings.ca_pem.as_ref());
            fields.base_dns = settings.base_dns.join("\n");
            fields.excluded_base_dns = settings.excluded_base_dns.join("\n");
            fields.user_filter = text(settings.user_filter.as_ref());
            fields.group_filter = text(settings.group_filter.as_ref());
            fields.computers = tick(settings.computers);
            settings.mapping
        }
    };
    fields.mapping_user_name = text(mapping.user_name.as_ref());
    fields.mapping_upn = text(mapping.upn.as_ref());
    fields.mapping_mail = text(mapping.mail.as_ref());
    fields.mapping_display_name = text(mapping.display_name.as_ref());
    fields.mapping_given_name = text(mapping.given_name.as_ref());
    fields.mapping_family_name = text(mapping.family_name.as_ref());
    fields.mapping_employee_id = text(mapping.employee_id.as_ref());
    fields.mapping_department = text(mapping.department.as_ref());
    fields.mapping_title = text(mapping.title.as_ref());
    fields.mapping_manager = text(mapping.manager.as_ref());
}

fn mapping(fields: &Fields) -> Mapping {
    Mapping {
        user_name: given(&fields.mapping_user_name),
        upn: given(&fields.mapping_upn),
        mail: given(&fields.mapping_mail),
        display_name: given(&fields.mapping_display_name),
        given_name: given(&fields.mapping_given_name),
        family_name: given(&fields.mapping_family_name),
        employee_id: given(&fields.mapping_employee_id),
        department: given(&fields.mapping_department),
        title: given(&fields.mapping_title),
        manager: given(&fields.mapping_manager),
    }
}

/// Reads the settings; `stored` is the directory being edited.
pub(super) fn read(fields: &Fields, stored: Option<&Directory>, errors: &mut Vec<FieldError>) -> FormSettings {
    let kind = kind(fields, stored).unwrap_or_else(|| {
        errors.push(FieldError::new("kind", "This kind of directory is not known here."));
        Kind::Openldap
    });
    let accepts = is_ticked(&fields.accept_plaintext);
    match fields.tls.as_str() {
        "ldaps" | "starttls" => (),
        "plain" if accepts => (),
        "plain" => errors.push(FieldError::new(
            "settings.acceptPlaintext",
            "Tick this box if the password and all data may travel unencrypted, or choose an encryption.",
        )),
        _ => errors.push(FieldError::new("settings.startTls", "Choose how the connection is encrypted.")),
    }
    let accept_plaintext = fields.tls == "plain" && accepts;
    let start_tls = fields.tls == "starttls";
    match kind {
        Kind::Openldap => {
            let before: openldap::Settings =
                stored.and_then(|directory| connectors::stored(&directory.settings)).unwrap_or_default();
            FormSettings::Openldap(openldap::Settings {
                servers: lines(&fields.servers),
                start_tls,
                ca_pem: given(&fields.ca_pem),
                accept_plaintext,
                base_dns: lines(&fields.base_dns),
                user_base_dns: lines(&fields.user_base_dns),
                group_base_dns: lines(&fields.group_base_dns),
                scope: scope(fields, errors),
                preset: preset(fields, errors),
                user_filter: given(&fields.user_filter),
                group_filter: given(&fields.group_filter),
                mapping: mapping(fields),
                page_size: before.page_size,
                attributes: before.attributes,
                disable_by: disable_by(fields),
            })
        }
        Kind::ActiveDirectory => {
            let before: active_directory::Settings =
                stored.and_then(|directory| connectors::stored(&directory.settings)).unwrap_or_default();
            FormSettings::ActiveDirectory(active_directory::Settings {
                servers: lines(&fields.servers),
                domain: given(&fields.domain),
                site: given(&fields.site),
                dns_servers: lines(&fields.dns_servers),
                global_catalog: is_ticked(&fields.global_catalog),
                start_tls,
                ca_pem: given(&fields.ca_pem),
                accept_plaintext,
                base_dns: lines(&fields.base_dns),
                excluded_base_dns: lines(&fields.excluded_base_dns),
                user_filter: given(&fields.user_filter),
                group_filter: given(&fields.group_filter),
                computers: is_ticked(&fields.computers),
                mapping: mapping(fields),
                page_size: before.page_size,
                attributes: before.attributes,
            })
        }
    }
}

fn disable_by(fields: &Fields) -> Option<DisableBy> {
    let is_empty = [&fields.disable_attribute, &fields.disabled_value, &fields.enabled_value]
        .into_iter()
        .all(|field| field.trim().is_empty());
    (!is_empty).then(|| DisableBy {
        attribute: fields.disable_attribute.trim().to_owned(),
        disabled: fields.disabled_value.trim().to_owned(),
        enabled: given(&fields.enabled_value),
    })
}

fn scope(fields: &Fields, errors: &mut Vec<FieldError>) -> Scope {
    match fields.scope.as_str() {
        "sub" | "" => Scope::Sub,
        "one" => Scope::One,
        _ => {
            errors.push(FieldError::new("settings.scope", "Choose one of the scopes."));
            Scope::Sub
        }
    }
}

fn preset(fields: &Fields, errors: &mut Vec<FieldError>) -> Preset {
    let found = Preset::ALL.into_iter().find(|preset| preset.as_str() == fields.preset);
    if found.is_none() && !fields.preset.is_empty() {
        errors.push(FieldError::new("settings.preset", "Choose one of the presets."));
    }
    found.unwrap_or_default()
}
