//! What a role may hold, and who may give it.

use std::sync::Arc;

use super::{
    model::{Role, RoleInput, predefined},
    *,
};
use crate::{
    db::Db,
    error::FieldError,
    principal::{AccountId, Principal, Rights, Scope},
};

fn open(dir: &std::path::Path) -> Db {
    Db::open(&Db::file(dir), true).expect("a database")
}

fn account() -> AccountId {
    AccountId::new(AccountId::MIN).expect("an id")
}

#[test]
fn only_full_access_can_give_everything() {
    for held in predefined() {
        let dir = tempfile::tempdir().expect("a folder");
        let principal = Principal::with_rights("default", account(), held.rights);
        let granted = open(dir.path()).read_blocking(|c| grantable(c, &principal)).expect("read");
        let ids: Vec<&str> = granted.iter().map(|role| role.id.as_str()).collect();
        assert!(ids.contains(&held.id.as_str()), "{} gives itself", held.id);
        assert_eq!(ids.contains(&FULL_ACCESS), held.id == FULL_ACCESS, "{}", held.id);
    }
}

#[test]
fn an_unknown_role_allows_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = open(dir.path());
    for id in ["", "owner", "FULL-ACCESS", "full-access ", "full-access\0"] {
        let role = db.read_blocking(|c| held(c, account(), id)).expect("read");
        assert_eq!(role.rights, Rights::default(), "{id:?}");
    }
}

fn wrong(json: serde_json::Value) -> Vec<String> {
    let input: RoleInput = serde_json::from_value(json).expect("an input");
    let mut wrong: Vec<FieldError> = Vec::new();
    input.onto(Role::nothing(""), &mut wrong);
    wrong.into_iter().map(|error| error.field).collect()
}

#[test]
fn a_role_for_a_part_holds_nothing_of_the_whole() {
    let role = |services: serde_json::Value, scope: serde_json::Value| {
        wrong(serde_json::json!({"id": "desk", "name": "Desk", "services": services, "scope": scope}))
    };
    let part = serde_json::json!({"directories": ["1"]});
    let all = serde_json::Value::Null;
    assert_eq!(role(serde_json::json!({"directories": "read", "enforcement": "operate"}), part.clone()), [""; 0]);
    for service in ["identity", "approvals", "risk", "audit", "settings"] {
        assert_eq!(role(serde_json::json!({service: "read"}), part.clone()), ["services"], "{service}");
        assert_eq!(role(serde_json::json!({service: "read"}), all.clone()), [""; 0], "{service}");
    }
    assert_eq!(role(serde_json::json!({"directories": "operate"}), part.clone()), ["services"]);
    assert_eq!(role(serde_json::json!({"enforcement": "full"}), part), ["services"]);
    assert_eq!(role(serde_json::json!({}), all), ["services"]);
    let services = serde_json::json!({"directories": "read"});
    assert_eq!(role(services.clone(), serde_json::json!({})), ["scope"]);
    assert_eq!(role(services.clone(), serde_json::json!({"groups": ["x"]})), ["scope.groups[0]", "scope"]);
    let many: Vec<String> = (0..201).map(|id| id.to_string()).collect();
    assert_eq!(role(services, serde_json::json!({"groups": many})), ["scope"]);
}

#[test]
fn an_id_is_a_slug() {
    let field = |id: &str| wrong(serde_json::json!({"id": id, "name": "n", "services": {"audit": "read"}}));
    for fine in ["ab", "helpdesk-oslo", "a1", &"a".repeat(64)] {
        assert_eq!(field(fine), [""; 0], "{fine}");
    }
    for bad in ["", "a", "1a", "-ab", "ab-", "Ab", "a b", "a/b", "ä-b", "..", &"a".repeat(65)] {
        assert_eq!(field(bad), ["id"], "{bad}");
    }
}

#[test]
fn whoever_has_a_part_gives_nothing() {
    let part = Arc::new(Scope { directories: vec![1], ..Scope::default() });
    let principal = Principal::in_part("default", account(), model::in_part(), part);
    for role in predefined() {
        assert!(check_grant(&principal, &role).is_err(), "{}", role.id);
    }
}
