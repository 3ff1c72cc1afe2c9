//! Rewinding: a plan that takes a directory's copy back to how it stood right after an earlier run.
//!
//! Owns that plan and how it is asked for. Nothing is read from the directory. What was touched by any plan since is
//! compared with itself then, object by object, and the differences are stored as every plan is; so it is looked at,
//! approved, applied, resumed and kept in the history like every other. Invariants: it is always parked, because the
//! next reading brings the directory's present state back; what came into the copy since is missing, not deleted; what
//! is written back has no source, so that the next reading looks at it again. Memory is bounded by the lines of one part, one
//! group's members, and a bit for every number.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    follow::Seen,
    model::{Mode, Run},
    parts::{PART_CHANGES, PART_OBJECTS},
    plan::Counts,
    progress::Progress,
    queries,
    run::Runner,
};
use crate::{
    audit::{self, Entry},
    clock::Time,
    connectors::{self, GroupFields, IdentityFields, Key, Keys, Source, Value},
    db::Db,
    error::{Error, Result},
    identities::{
        ChangeKind, ObjectId, SubjectType,
        lookup::Gone,
        past,
        staged::{self, Named, Staged},
        undoing::{self, Stood, Turned},
        write::{self, NewChange},
    },
    kernel::Kernel,
    principal::{Principal, urn},
    web::carried,
};

/// Where to go back to.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = Rewind)]
pub struct RewindInput {
    /// The id of an applied run of the directory: the copy is taken back to how it stood right after it.
    pub to_run: String,
}

/// Starts a run that plans the way back. 422 when the run is not one to go back to, 400 when its time lies before the
/// history is kept, 409 when a run of the directory is going on.
pub async fn start(
    kernel: &Kernel,
    principal: &Principal,
    runner: &Runner,
    directory: i64,
    input: RewindInput,
) -> Result<Run> {
    let to_run: i64 =
        input.to_run.trim().parse().map_err(|_| Error::field("toRun", "Give the id of a run of this directory."))?;
    runner.take_up_abandoned(directory).await?;
    let (kernel, principal, runner) = (kernel.clone(), principal.clone(), runner.clone());
    // In a task of its own: when the asker goes away, a run that was stored is carried all the same.
    tokio::spawn(carried(async move { begin(&kernel, &principal, &runner, directory, to_run).await }))
        .await
        .map_err(|e| Error::caused("starting a run ended early", e))?
}

async fn begin(kernel: &Kernel, principal: &Principal, runner: &Runner, directory: i64, to_run: i64) -> Result<Run> {
    let account = principal.account()?;
    let (who, now, board) = (principal.clone(), kernel.clock.now(), runner.board.clone());
    let run = audit::change(kernel, principal, move |c| {
        let stored = queries::find(c, account, directory)?.ok_or(Error::NotFound("This directory"))?;
        let at = undoing::applied_at(c, directory, to_run)?
            .ok_or_else(|| Error::field("toRun", "This is not an applied run of this directory."))?;
        if stored.applied_run_id == Some(to_run) {
            return Err(Error::field("toRun", "The copy stands as this run left it: there is nothing to take back."));
        }
        past::check_readable(c, account, at)?;
        let id = queries::insert_run(c, &stored, Mode::Rewind.as_str(), false, &who.urn(), "", now)?
            .ok_or_else(|| Error::Conflict("A run of this directory is going on already.".into()))?;
        queries::set_rewind_to(c, id, to_run)?;
        let entry = Entry::new("audit.run_started.v1")
            .subject(urn("directories", &who.region, who.account, "run", id))
            .detail("directory", stored.name)
            .detail("mode", Mode::Rewind.as_str())
            .detail("toRun", to_run.to_string());
        let run = queries::find_run(c, account, id)?.ok_or(Error::NotFound("This run"))?;
        // Before anybody can see the row: from then on it is carried.
        board.open(id);
        Ok((run, vec![entry]))
    })
    .await?;
    runner.spawn(run.clone());
    Ok(run)
}

/// Change rows that are looked at in one reading of the copy.
const WINDOW: i64 = 2_000;

/// The plan while it is written.
struct Draft {
    db: Db,
    run: i64,
    staged: Vec<Staged>,
    changes: Vec<NewChange>,
    counts: Counts,
}

/// Plans the way back to the moment `at`; blocking. Answers what the plan does.
pub fn plan(db: &Db, run: i64, directory: i64, at: Time, progress: &Arc<Progress>) -> Result<Counts> {
    let mut draft = Draft { db: db.clone(), run, staged: Vec::new(), changes: Vec::new(), counts: Counts::default() };
    let mut seen = Seen::default();
    for later in db.read_blocking(|c| undoing::applied_since(c, directory, at))? {
        let mut after = 0;
        // One reading for each window: a plan of a million lines must not keep one open.
        while let Some((objects, last)) = db.read_blocking(|c| undoing::touched(c, later, after, WINDOW))? {
            after = last;
            let mut objects = objects.into_iter();
            while objects.len() > 0 {
                db.read_blocking(|c| {
                    for (subject, id) in objects.by_ref() {
                        if seen.insert(id)
                            && let Some(turned) = undoing::turned(c, subject, id, at)?
                        {
                            draft.object(subject, id, turned)?;
                        }
                        if draft.has_part() {
                            break;
                        }
                    }
                    Ok(())
                })?;
                if draft.has_part() {
                    // With no snapshot of the copy open: the log can't be started anew under a reader (see `db`).
                    draft.flush()?;
                }
            }
            progress.read(draft.counts);
        }
    }
    draft.flush()?;
    Ok(draft.counts)
}

impl Draft {
    /// Enough has gathered for a part.
    fn has_part(&self) -> bool {
        self.staged.len() >= PART_OBJECTS || self.changes.len() >= PART_CHANGES
    }

    fn line(&mut self, subject: SubjectType, id: ObjectId, kind: ChangeKind) {
        self.changes.push(NewChange::of(subject, id, kind));
    }

    fn flush(&mut self) -> Result<()> {
        let (run, staged, changes) = (self.run, std::mem::take(&mut self.staged), std::mem::take(&mut self.changes));
        self.db.bulk_blocking(move |c| write::store_part(c, run, &staged, &changes))
    }

    fn object(&mut self, subject: SubjectType, id: ObjectId, turned: Turned) -> Result<()> {
        self.counts.read += 1;
        if turned.stood == Stood::Absent {
            // It came later: without an answer of the directory that it is gone, it is missing and nothing else.
            if turned.gone == Gone::Present {
                self.counts.missing += 1;
                self.line(subject, id, ChangeKind::Missing);
            } else {
                self.counts.unchanged += 1;
            }
            return Ok(());
        }
        let differences = staged::differences(&turned.content_now, &turned.content_then)?;
        let same_members = turned.members_now == turned.members_then;
        let differs = !differences.is_empty() || !same_members;
        let was_missing = turned.stood == Stood::Missing;
        // A missing object stands where it stood as long as it is not a tombstone now.
        let is_back = if was_missing { turned.gone == Gone::Removed } else { turned.gone != Gone::Present };
        let goes_missing = was_missing && (turned.gone == Gone::Present || differs || is_back);
        if !differs && !is_back && !goes_missing {
            self.counts.unchanged += 1;
            return Ok(());
        }
        self.changes.extend(differences.into_iter().map(|difference| NewChange::field(subject, id, difference)));
        self.members(id, &turned.members_now, &turned.members_then);
        match (goes_missing, is_back) {
            (true, _) => {
                self.counts.missing += 1;
                self.line(subject, id, ChangeKind::Missing);
            }
            (false, true) => {
                self.counts.returned += 1;
                self.line(subject, id, ChangeKind::Returned);
            }
            (false, false) => self.counts.changed += 1,
        }
        if differs || is_back {
            self.staged.push(staged(subject, id, turned)?);
        }
        Ok(())
    }

    /// Both ascending and without doubles.
    fn members(&mut self, group: ObjectId, now: &[ObjectId], then: &[ObjectId]) {
        let sides = [(now, then, ChangeKind::MemberRemoved), (then, now, ChangeKind::MemberAdded)];
        for (of, other, kind) in sides {
            for member in of.iter().filter(|member| other.binary_search(member).is_err()) {
                match kind {
                    ChangeKind::MemberAdded => self.counts.members_added += 1,
                    _ => self.counts.members_removed += 1,
                }
                self.changes.push(NewChange::member(group, kind, *member));
            }
        }
    }
}

/// The content of then, as apply writes it.
fn staged(subject: SubjectType, id: ObjectId, turned: Turned) -> Result<Staged> {
    let named = |keys: Keys| Named {
        object_id: id,
        is_new: false,
        external_id: turned.external_id.clone(),
        // No directory sends this: whatever it sends next is looked at.
        source: Source([0; 16]),
        keys,
    };
    Ok(match subject {
        SubjectType::Identity => {
            let now: IdentityFields = serde_json::from_str(&turned.content_now)?;
            let then: IdentityFields = serde_json::from_str(&turned.content_then)?;
            let json = serde_json::to_string(&then)?;
            let keys = Keys {
                dn: dn_key(now.attributes.get("dn"), then.attributes.get("dn"), turned.keys_now.dn),
                name: turned.keys_now.name.map(|key| name_key(&now, &then, key)),
            };
            Staged::identity(named(keys), then, json)
        }
        SubjectType::Group => {
            let now: GroupFields = serde_json::from_str(&turned.content_now)?;
            let then: GroupFields = serde_json::from_str(&turned.content_then)?;
            let json = serde_json::to_string(&then)?;
            let dn = dn_key(now.attributes.get("dn"), then.attributes.get("dn"), turned.keys_now.dn);
            let count = i64::try_from(turned.members_then.len()).unwrap_or(i64::MAX);
            Staged::group(named(Keys { dn, name: None }), then, json, count)
        }
    })
}

fn first_text(values: Option<&Vec<Value>>) -> Option<&str> {
    match values.and_then(|values| values.first()) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

/// What an object was referred to by: computed as the connectors do, where its DN was another one.
fn dn_key(now: Option<&Vec<Value>>, then: Option<&Vec<Value>>, key: Option<Key>) -> Option<Key> {
    if now == then { key } else { first_text(then).and_then(connectors::dn_key) }
}

/// The same for a user name, which `memberUid` refers by: the raw `uid`, else the user name.
fn name_key(now: &IdentityFields, then: &IdentityFields, key: Key) -> Key {
    let name =
        |fields: &IdentityFields| first_text(fields.attributes.get("uid")).unwrap_or(&fields.user_name).to_lowercase();
    if name(now) == name(then) { key } else { Key::of_name(&name(then)) }
}
