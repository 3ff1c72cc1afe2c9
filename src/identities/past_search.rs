//! Searching as of a time: whom the search index of now does not find, though the words of then would.
//!
//! Owns how those are found: by where they stood in the lists, and by the changes of the fields that are searched.
//! What it answers are candidates; whether one fits is decided by its content of then. Reads only.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::{
    fold::{fold, has_a_word, index_text},
    lookup::Gone,
    model::{ObjectId, SubjectType},
};
use crate::{clock::Time, error::Result};

/// Objects of a directory with a number above `after` that had another place in the lists then, and whose name then has
/// a word of a text, or that are tombstones now, which no search index knows.
const NAMED: &str =
    "SELECT p.sort_key, p.object_id, o.gone FROM past p INDEXED BY past_until CROSS JOIN object o ON o.id = p.object_id
     WHERE p.directory_id = ?1 AND p.until_at > ?2 AND p.since_at <= ?2 AND p.kind = ?3 AND p.object_id > ?4";

/// What the fields that are searched held before each change since then. The names are those of the index
/// `change_of_words`, and every field of [`super::staged::identity_text`] and [`super::staged::group_text`].
const REWORDED: &str =
    "SELECT c.before, c.subject_id FROM plan p INDEXED BY plan_applied_at CROSS JOIN change c INDEXED BY change_of_words
       ON c.run_id = p.run_id AND c.subject_id > ?4
     WHERE p.applied_at > ?2 AND p.directory_id = ?1 AND p.first_change IS NOT NULL AND c.kind = 'changed'
       AND c.field IN ('displayName', 'givenName', 'familyName', 'userName', 'upn', 'mail', 'mails', 'employeeId', 'name',
                       'description')
       AND c.subject_type = ?3 AND c.before IS NOT NULL";

/// Adds the objects of a directory with a number above `after` that a search for `q` may find as of a time though it
/// does not find them now. It walks what has changed since then, by index, and no more.
pub(super) fn candidates(
    connection: &Connection,
    directory: i64,
    subject: SubjectType,
    q: &str,
    at: Time,
    after: ObjectId,
    found: &mut BTreeSet<ObjectId>,
) -> Result<()> {
    let folded = fold(q);
    let words: Vec<&str> = folded.split_whitespace().collect();
    let mut statement = connection.prepare_cached(NAMED)?;
    let mut rows = statement.query(params![directory, at, subject.code(), after])?;
    while let Some(row) = rows.next()? {
        let name = row.get_ref(0)?.as_str().unwrap_or_default();
        if row.get::<_, i64>(2)? == Gone::Removed.code() || words.iter().any(|word| name.contains(word)) {
            found.insert(row.get(1)?);
        }
    }
    let mut statement = connection.prepare_cached(REWORDED)?;
    let mut rows = statement.query(params![directory, at, subject.code(), after])?;
    while let Some(row) = rows.next()? {
        let before: serde_json::Value = serde_json::from_str(row.get_ref(0)?.as_str().unwrap_or("null"))?;
        let texts = before.as_array().map_or(std::slice::from_ref(&before), Vec::as_slice);
        if has_a_word(&index_text(texts.iter().filter_map(serde_json::Value::as_str)), q) {
            found.insert(row.get(1)?);
        }
    }
    Ok(())
}

/// How SQLite walks.
#[cfg(test)]
pub(super) fn plans_of(connection: &Connection) -> Vec<String> {
    let steps = |sql: &str| -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
        statement.query_map(params![1, 5, 1, 0], |row| row.get(3))?.collect()
    };
    [NAMED, REWORDED].iter().flat_map(|sql| steps(sql).expect("a plan")).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            past,
            queries::Filter,
            staged,
            tests::{OURS, Plan, place, start},
            write::NewChange,
            *,
        },
        plans_of,
    };
    use crate::{
        clock::MINUTE,
        connectors::{GroupFields, IdentityFields},
        principal::AccountId,
    };

    /// Every text of an identity, each another word.
    fn worded(word: &str) -> IdentityFields {
        let with = |field: &str| Some(format!("{field}{word}"));
        IdentityFields {
            user_name: format!("user{word}"),
            upn: with("upn"),
            mail: with("mail"),
            mails: vec![format!("mail{word}"), format!("second{word}")],
            // The same at all times: a search must not live on the name that orders the lists.
            display_name: Some("Same Name".into()),
            given_name: with("given"),
            family_name: with("family"),
            employee_id: with("employee"),
            department: with("department"),
            title: with("title"),
            manager: with("manager"),
            ..IdentityFields::default()
        }
    }

    fn changed(subject: SubjectType, id: ObjectId, before: &str, after: &str) -> Vec<NewChange> {
        let differences = staged::differences(before, after).expect("differences");
        differences.into_iter().map(|difference| NewChange::field(subject, id, difference)).collect()
    }

    #[test]
    fn everybody_is_found_by_every_word_of_then_whatever_has_changed_since() {
        let mut place = place();
        let mut plan = Plan::default();
        plan.identity(1, worded("then"));
        plan.identity(2, worded("other"));
        plan.group(10, "The group", &[1]);
        let first = place.apply(1, plan);
        place.see_from_the_start();
        let json = |word: &str| serde_json::to_string(&worded(word)).expect("JSON");
        let group = |name: &str, description: Option<&str>| GroupFields {
            name: name.into(),
            kind: Some("groupOfNames".into()),
            description: description.map(str::to_owned),
            ..GroupFields::default()
        };
        // Changed twice: what was in between is no word of then.
        let mut described = group("The group", None);
        for (before, after) in [("then", "between"), ("between", "now")] {
            let mut plan = Plan::default();
            plan.put_identity(1, worded(after), false);
            plan.changes = changed(SubjectType::Identity, 1, &json(before), &json(after));
            let next = group("The group", Some(&format!("described {after}")));
            let text = |fields: &GroupFields| serde_json::to_string(fields).expect("JSON");
            plan.changes.extend(changed(SubjectType::Group, 10, &text(&described), &text(&next)));
            plan.put_group(10, next.clone());
            place.apply(1, plan);
            described = next;
        }
        let search = |q: &str, run: i64| {
            let at = Some(start().plus(run * MINUTE));
            let account = AccountId::new(OURS).expect("an account");
            let filter = Filter { q: q.into(), ..Filter::default() };
            place.read(|c| {
                let people = past::identities(c, &super::super::parts::Sight::whole(account), &filter, at, None, 10)?;
                let groups = past::groups(c, &super::super::parts::Sight::whole(account), &filter, at, None, 10)?;
                Ok((people.iter().map(|row| row.id).collect(), groups.iter().map(|row| row.id).collect()))
            })
        };
        let found = |q: &str, run: i64| -> (Vec<ObjectId>, Vec<ObjectId>) { search(q, run) };
        let words = |word: &str| -> Vec<String> {
            let text = staged::identity_text(&worded(word));
            text.split_whitespace().filter(|found| found.ends_with(word)).map(str::to_owned).collect()
        };
        assert_eq!(words("then").len(), 7, "{:?}", words("then"));
        for (run, then) in ["then", "between", "now"].into_iter().enumerate() {
            let run = first + i64::try_from(run).expect("a number");
            for word in ["then", "between", "now"] {
                for text in words(word) {
                    let expected = if word == then { vec![1] } else { vec![] };
                    assert_eq!(found(&text, run).0, expected, "{text} at {then}");
                    assert_eq!(found(&format!("{text} same"), run).0, expected, "{text} at {then}");
                }
                let expected = if word == then && word != "then" { vec![10] } else { vec![] };
                assert_eq!(found(&format!("described {word}"), run).1, expected, "{word} at {then}");
            }
            assert_eq!(found("same name", run).0, [1, 2]);
            assert_eq!(found("userother", run).0, [2]);
        }
    }

    #[test]
    fn whom_the_index_of_now_does_not_know_is_found_by_walking_an_index() {
        let plan = place().read(|c| Ok(plans_of(c)));
        assert!(plan.iter().all(|step| step.starts_with("SEARCH")), "{plan:?}");
        assert!(plan.iter().any(|step| step.contains("change_of_words (run_id=? AND subject_id>?)")), "{plan:?}");
    }
}
