//! One entry to look at, for the form that maps attributes to fields.

use super::{Connection, EntryView, SearchRequest, inbox::Plainly, pages::Map, values};
use crate::connectors::{Failure, FailureKind, Sample};

/// Entries of which the one with the most attributes is taken.
const LOOKED_AT: u32 = 20;

/// The richest of the first users, so that the form has something to show.
pub async fn richest(
    connection: &mut Connection,
    requests: Vec<SearchRequest>,
    mapper: &mut impl Map,
) -> Result<Sample, Failure> {
    for mut request in requests {
        request.page_size = request.page_size.min(LOOKED_AT);
        request.entries_max = Some(LOOKED_AT);
        let mut search = connection.search(request);
        let mut best: Option<(usize, Sample)> = None;
        while let Some(chunk) = search.next(&mut Plainly).await? {
            for entry in chunk.entries().filter_map(EntryView::read) {
                let count = entry.attributes().count();
                if best.as_ref().is_some_and(|(before, _)| *before >= count) {
                    continue;
                }
                let mapped = mapper.identity(&entry).map(|identity| identity.fields).unwrap_or_default();
                let dn = String::from_utf8_lossy(entry.dn).into_owned();
                best = Some((count, Sample { dn, attributes: values::raw(&entry), mapped }));
            }
        }
        if let Some((_, sample)) = best {
            return Ok(sample);
        }
    }
    Err(Failure::new(
        FailureKind::Other,
        "No user was found, so there is no entry to show.",
        "Check the base DN and the user filter, and that the bind DN may read users.",
    ))
}
