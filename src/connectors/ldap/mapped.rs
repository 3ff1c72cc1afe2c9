//! The fields that a mapping fills, while an entry is walked: of several attributes the first in the list wins.
//!
//! Owns that rule for every kind of LDAP directory.

use super::{dn, settings::MAPPED_FIELDS, values::short};
use crate::connectors::IdentityFields;

const FIELDS: usize = MAPPED_FIELDS.len();
/// Where `mail` stands in [`MAPPED_FIELDS`]; it alone may have several values.
pub const MAIL: usize = 2;

/// The attributes that are tried for each field, in order ([`Mapping::sources`](super::settings::Mapping::sources)).
pub type Sources = [Vec<String>; FIELDS];

/// A mapped field (index into [`MAPPED_FIELDS`]) and the rank of one of its sources.
pub type Place = (usize, usize);

/// Where the values of an attribute go; its name compared without case.
pub fn places<'s>(sources: &'s Sources, name: &'s str) -> impl Iterator<Item = Place> + 's {
    sources.iter().enumerate().flat_map(move |(field, sources)| {
        let ranks = sources.iter().enumerate().filter(move |(_, source)| source.eq_ignore_ascii_case(name));
        ranks.map(move |(rank, _)| (field, rank))
    })
}

/// The best value of each field so far.
#[derive(Debug, Default)]
pub struct Mapped<'a>([Option<(usize, &'a str)>; FIELDS]);

impl<'a> Mapped<'a> {
    pub fn offer(&mut self, (field, rank): Place, text: &'a str) {
        if let Some(best) = self.0.get_mut(field)
            && best.is_none_or(|(before, _)| rank < before)
        {
            *best = Some((rank, text));
        }
    }

    /// The fields; who has no user name is called as the DN begins, or by the external id.
    pub fn fields(&self, dn: &str, external_id: &str) -> IdentityFields {
        let [user_name, upn, _, display_name, given_name, family_name, employee_id, department, title, manager] =
            self.0.map(|best| best.map(|(_, text)| short(text)));
        let named = || dn::first_value(dn).map(|text| short(&text)).unwrap_or_else(|| external_id.to_owned());
        IdentityFields {
            user_name: user_name.unwrap_or_else(named),
            upn,
            display_name,
            given_name,
            family_name,
            employee_id,
            department,
            title,
            manager,
            ..IdentityFields::default()
        }
    }
}
