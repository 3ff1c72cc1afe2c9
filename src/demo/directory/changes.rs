//! The small changes of every minute: people join, leave, marry, move, are locked out; groups gain and lose members.
//!
//! Owns which changes happen and the limits that keep the organisation its size. The same seed and tick number always
//! make the same changes. It must never leave a `groupOfNames` without a member (RFC 4519 §3.5 requires one), a person
//! under a manager who is gone, or a name given to a second person.

use jiff::Timestamp;

use super::{
    organisation::{
        Basis, DEPARTMENTS, Group, GroupClass, Kind, Lock, MAIL_DOMAIN, Member, Organisation, Person, PersonId, Rank,
        SITES, TEAMS,
    },
    random::Random,
};

/// Nobody joins above this number of accounts, nobody leaves below the other.
pub const PEOPLE_MAX: usize = 575;
pub const PEOPLE_MIN: usize = 525;
/// Hand-kept groups stay between these sizes.
const ASSIGNED_MAX: usize = 80;
const ASSIGNED_MIN: usize = 3;
/// Changes of one tick: at least this many, and up to `SPREAD` more.
const CHANGES_MIN: usize = 2;
const SPREAD: usize = 4;

type Change = fn(&mut Organisation, Timestamp, &mut Random) -> Option<String>;

/// What can happen, and how often in relation to the rest.
const KINDS: &[(usize, Change)] = &[
    (18, promote),
    (8, change_team),
    (8, relocate),
    (9, join),
    (8, leave),
    (16, assign),
    (13, unassign),
    (5, marry),
    (7, lock),
    (7, unlock),
    (6, change_password),
    (12, change_phone),
];

/// Makes the changes of one tick. Answers one sentence for each, for the log.
pub fn tick(organisation: &mut Organisation, number: u64, now: Timestamp) -> Vec<String> {
    let mut random = Random::step(organisation.seed, number);
    let wanted = CHANGES_MIN + random.below(SPREAD);
    let mut done = Vec::new();
    // Some draws find nobody who fits (nobody is locked, nobody may leave): draw again, but not for ever.
    for _ in 0..wanted * 8 {
        if done.len() == wanted {
            break;
        }
        let mut left = random.below(KINDS.iter().map(|(weight, _)| weight).sum());
        for (weight, change) in KINDS {
            if left < *weight {
                done.extend(change(organisation, now, &mut random));
                break;
            }
            left -= weight;
        }
    }
    done
}

fn shown(person: &Person) -> String {
    let name =
        person.display_name.clone().unwrap_or_else(|| person.name.full_latin().unwrap_or_else(|| person.name.full()));
    format!("{name} ({})", person.uid)
}

/// Somebody who fits, by chance.
fn someone(organisation: &Organisation, random: &mut Random, fits: impl Fn(&Person) -> bool) -> Option<PersonId> {
    let fitting: Vec<PersonId> =
        organisation.people.iter().filter(|person| fits(person)).map(|person| person.id).collect();
    random.pick(&fitting).copied()
}

fn is_staff(person: &Person) -> bool {
    person.kind == Kind::Employee && person.rank == Rank::Staff
}

/// Whether the group could do without this person.
fn can_do_without(group: &Group) -> bool {
    matches!(group.class, GroupClass::Posix { .. }) || group.members.len() > 1
}

/// Puts a person into the groups that follow the organisation, and takes them out of those that no longer fit.
fn settle(organisation: &mut Organisation, id: PersonId) {
    let Some(person) = organisation.person(id).cloned() else { return };
    let member = Member::Person(id);
    for group in &mut organisation.groups {
        if matches!(group.basis, Basis::Assigned | Basis::Fixed) {
            continue;
        }
        let is_member = group.members.contains(&member);
        match Organisation::belongs(&person, group.basis) {
            true if !is_member => group.members.push(member),
            false if is_member => group.members.retain(|other| *other != member),
            _ => {}
        }
    }
}

/// Whether every group that the person would leave keeps a member.
fn may_leave(organisation: &Organisation, id: PersonId, leaves: impl Fn(&Group) -> bool) -> bool {
    let member = Member::Person(id);
    organisation.groups.iter().filter(|group| group.members.contains(&member) && leaves(group)).all(can_do_without)
}

fn promote(organisation: &mut Organisation, _now: Timestamp, random: &mut Random) -> Option<String> {
    let id = someone(organisation, random, is_staff)?;
    let person = organisation.person_mut(id)?;
    let titles = person.team.and_then(|team| TEAMS.get(team))?.titles;
    let others: Vec<&str> = titles.iter().copied().filter(|title| *title != person.title).collect();
    let title = *random.pick(&others)?;
    let before = std::mem::replace(&mut person.title, title.to_owned());
    Some(format!("{} is now {title}, was {before}", shown(person)))
}

fn change_team(organisation: &mut Organisation, _now: Timestamp, random: &mut Random) -> Option<String> {
    let id = someone(organisation, random, is_staff)?;
    let before = organisation.person(id)?.team?;
    let team = random.below(TEAMS.len());
    if team == before || !may_leave(organisation, id, |group| group.basis == Basis::Team(before)) {
        return None;
    }
    let to = TEAMS.get(team)?;
    let manager = organisation.leader_of(Some(team), to.department);
    let title = random.pick(to.titles).copied()?;
    let person = organisation.person_mut(id)?;
    person.team = Some(team);
    person.department = to.department;
    person.title = title.to_owned();
    person.manager = manager;
    let text = format!("{} moved to {} ({})", shown(person), to.name, DEPARTMENTS.get(to.department)?.name);
    settle(organisation, id);
    Some(text)
}

fn relocate(organisation: &mut Organisation, _now: Timestamp, random: &mut Random) -> Option<String> {
    let id = someone(organisation, random, is_staff)?;
    let before = organisation.person(id)?.site;
    let site = random.below(SITES.len());
    if site == before || !may_leave(organisation, id, |group| group.basis == Basis::Site(before)) {
        return None;
    }
    let person = organisation.person_mut(id)?;
    person.site = site;
    person.phone = Organisation::phone(site, random);
    let text = format!("{} moved to {}", shown(person), SITES.get(site)?.city);
    settle(organisation, id);
    Some(text)
}

fn join(organisation: &mut Organisation, now: Timestamp, random: &mut Random) -> Option<String> {
    if organisation.people.len() >= PEOPLE_MAX {
        return None;
    }
    let kind = if random.chance(15) { Kind::Contractor } else { Kind::Employee };
    let id = organisation.join(kind, now, random);
    settle(organisation, id);
    let person = organisation.person_mut(id)?;
    // The first password was set by the service desk.
    person.must_change_password = true;
    person.password_changed = now;
    Some(format!("{} joined as {}", shown(person), person.title))
}

fn leave(organisation: &mut Organisation, _now: Timestamp, random: &mut Random) -> Option<String> {
    if organisation.people.len() <= PEOPLE_MIN {
        return None;
    }
    let leads_too = random.chance(12);
    let id = someone(organisation, random, |person| {
        person.kind != Kind::Service
            && !person.is_named_by_cn
            && (person.rank == Rank::Staff || leads_too && person.rank == Rank::Lead)
    })?;
    if !may_leave(organisation, id, |_| true) {
        return None;
    }
    let gone = organisation.person(id)?.clone();
    let mut text = format!("{} left {}", shown(&gone), DEPARTMENTS.get(gone.department)?.name);
    // A lead is followed by whoever is longest in the team; without anybody to follow, the lead stays.
    let mut successor = gone.manager;
    if gone.rank == Rank::Lead {
        let team = organisation.people.iter().filter(|person| is_staff(person) && person.team == gone.team);
        let next = team.min_by_key(|person| (person.created, person.id))?.id;
        let person = organisation.person_mut(next)?;
        person.rank = Rank::Lead;
        person.title.clone_from(&gone.title);
        person.manager = gone.manager;
        text = format!("{text}; {} now leads the team", shown(person));
        successor = Some(next);
        settle(organisation, next);
    }
    for person in &mut organisation.people {
        if person.manager == Some(id) {
            person.manager = successor;
        }
    }
    for group in &mut organisation.groups {
        group.members.retain(|member| *member != Member::Person(id));
    }
    organisation.people.retain(|person| person.id != id);
    Some(text)
}

/// A hand-kept group that fits, by chance.
fn some_assigned<'a>(
    organisation: &'a mut Organisation,
    random: &mut Random,
    fits: impl Fn(usize) -> bool,
) -> Option<&'a mut Group> {
    let fitting: Vec<_> = organisation
        .groups
        .iter()
        .filter(|group| group.basis == Basis::Assigned && fits(group.members.len()))
        .map(|group| group.id)
        .collect();
    let id = random.pick(&fitting).copied()?;
    organisation.groups.iter_mut().find(|group| group.id == id)
}

fn assign(organisation: &mut Organisation, _now: Timestamp, random: &mut Random) -> Option<String> {
    let id = someone(organisation, random, |person| person.kind != Kind::Service)?;
    let name = shown(organisation.person(id)?);
    let group = some_assigned(organisation, random, |members| members < ASSIGNED_MAX)?;
    if group.members.contains(&Member::Person(id)) {
        return None;
    }
    group.members.push(Member::Person(id));
    Some(format!("{name} was added to {}", group.name))
}

fn unassign(organisation: &mut Organisation, _now: Timestamp, random: &mut Random) -> Option<String> {
    let group = some_assigned(organisation, random, |members| members > ASSIGNED_MIN)?;
    let people: Vec<Member> =
        group.members.iter().copied().filter(|member| matches!(member, Member::Person(_))).collect();
    let member = *random.pick(&people)?;
    group.members.retain(|other| *other != member);
    let group = group.name.clone();
    let Member::Person(id) = member else { return None };
    Some(format!("{} was removed from {group}", shown(organisation.person(id)?)))
}

/// Family name, user name, DN and mail address change; `entryUUID` and employee number stay.
fn marry(organisation: &mut Organisation, _now: Timestamp, random: &mut Random) -> Option<String> {
    let id = someone(organisation, random, |person| person.kind == Kind::Employee)?;
    let person = organisation.person(id)?;
    let before = shown(person);
    let name = person.name.with_other_family(random);
    if name.family == person.name.family {
        return None;
    }
    let uid = organisation.free_uid(&name.local_part());
    let keeps_old_mail = random.chance(40);
    let person = organisation.person_mut(id)?;
    let own = format!("{}@{MAIL_DOMAIN}", person.uid);
    if let Some(first) = person.mails.first_mut().filter(|mail| **mail == own) {
        *first = format!("{uid}@{MAIL_DOMAIN}");
        person.mails.truncate(1);
        if keeps_old_mail {
            person.mails.push(own);
        }
    }
    person.name = name;
    person.uid = uid;
    Some(format!("{before} is now {}", shown(person)))
}

fn lock(organisation: &mut Organisation, now: Timestamp, random: &mut Random) -> Option<String> {
    // Some 5 % locked is a bad day; more would bore.
    if organisation.people.iter().filter(|person| person.lock.is_some()).count() * 20 > organisation.people.len() {
        return None;
    }
    let is_for_good = random.chance(25);
    let id = someone(organisation, random, |person| person.lock.is_none() && is_staff(person))?;
    let person = organisation.person_mut(id)?;
    person.lock = Some(if is_for_good { Lock::Permanent } else { Lock::Since(now) });
    let why = if is_for_good { "was disabled by an administrator" } else { "was locked after wrong passwords" };
    Some(format!("{} {why}", shown(person)))
}

fn unlock(organisation: &mut Organisation, _now: Timestamp, random: &mut Random) -> Option<String> {
    let id = someone(organisation, random, |person| person.lock.is_some() && person.kind != Kind::Service)?;
    let must_change = random.chance(40);
    let person = organisation.person_mut(id)?;
    person.lock = None;
    person.must_change_password |= must_change;
    Some(format!("{} was unlocked", shown(person)))
}

fn change_password(organisation: &mut Organisation, now: Timestamp, random: &mut Random) -> Option<String> {
    let id = someone(organisation, random, |person| person.must_change_password && person.lock.is_none())?;
    let person = organisation.person_mut(id)?;
    person.must_change_password = false;
    person.password_changed = now;
    Some(format!("{} chose a new password", shown(person)))
}

fn change_phone(organisation: &mut Organisation, _now: Timestamp, random: &mut Random) -> Option<String> {
    let id = someone(organisation, random, is_staff)?;
    let person = organisation.person_mut(id)?;
    let phone = Organisation::phone(person.site, random)?;
    if person.phone.as_ref() == Some(&phone) {
        return None;
    }
    let text = format!("{} has the telephone number {phone}", shown(person));
    person.phone = Some(phone);
    Some(text)
}
