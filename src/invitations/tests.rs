//! When an invitation ends, what a link leads to, and that no question walks the whole table.

use super::*;
use crate::{
    clock::Time,
    db::Db,
    principal::AccountId,
    secret::{self, Secret},
};

fn invitation(state: InvitationState) -> Invitation {
    Invitation {
        id: "i".into(),
        account_id: AccountId::new(AccountId::MIN).expect("an id"),
        email: "A@b.example".into(),
        email_folded: "a@b.example".into(),
        role_id: "read-only".into(),
        stored_state: state,
        is_mailed: false,
        invited_by: "urn".into(),
        inviter_name: "Ida".into(),
        inviter_id: None,
        lifetime_days: 7,
        created_at: Time(0),
        last_sent_at: Time(0),
        sent_count: 1,
        expires_at: Time(100),
        ended_at: None,
        accepted_by: None,
    }
}

#[test]
fn time_ends_an_open_invitation_and_no_other() {
    for state in InvitationState::ALL {
        assert_eq!(InvitationState::parse(state.as_str()), Some(state));
        assert_eq!(invitation(state).state(Time(99)), state);
        let later = if state == InvitationState::Invited { InvitationState::Expired } else { state };
        assert_eq!(invitation(state).state(Time(100)), later, "{state:?}");
    }
}

#[test]
fn only_the_path_of_a_link_has_a_token() {
    let token = secret::random_token();
    let read = |path: &str| token_in(path).map(|token: Secret<String>| token.expose().clone());
    assert_eq!(read(&model::landing_path(&token)).as_ref(), Some(token.expose()));
    assert_eq!(read("/x/../invitation?a=b&token=t").as_deref(), Some("t"));
    for other in [
        "",
        "/",
        "/invitation",
        "/invitation?x=1",
        "/invitations?token=t",
        "/x?token=t",
        "//evil.example/invitation?token=t",
        "https://evil.example/invitation?token=t",
    ] {
        assert_eq!(read(other), None, "{other}");
    }
}

#[test]
fn every_query_walks_an_index() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Db::open(&Db::file(dir.path()), true).expect("a database");
    db.read_blocking(|c| {
        for sql in queries::statements() {
            let mut statement = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let unknown = vec![None::<i64>; statement.parameter_count()];
            let plan: Vec<String> = statement
                .query_map(rusqlite::params_from_iter(unknown), |row| row.get(3))?
                .collect::<rusqlite::Result<_>>()?;
            assert!(plan.iter().all(|step| step.starts_with("SEARCH")), "{sql}: {plan:?}");
        }
        Ok(())
    })
    .expect("planned");
}
