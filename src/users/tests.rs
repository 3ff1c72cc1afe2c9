//! The rules for addresses and names, and that lists walk an index.

use super::*;
use crate::db::Db;

#[test]
fn addresses_that_mail_could_reach_are_taken_and_compared_folded() {
    for fine in ["a@b", "ida.marlow@halden.example", "o'brien+x@sub.halden.example", "ürsula@bücher.example", " a@b.c "]
    {
        assert!(check_email("email", fine).is_ok(), "{fine}");
    }
    for bad in [
        "",
        "a",
        "@b",
        "a@",
        "a@b@c",
        "a b@c",
        "a@b..c",
        "a@-b.c",
        "a@b-",
        "<a@b>",
        "a@b,c@d",
        "a@b\r\nBcc: x@y",
        "a@b\0",
        &format!("{}@b", "x".repeat(65)),
        &format!("a@{}", "x.".repeat(130)),
    ] {
        assert!(check_email("email", bad).is_err(), "{bad:?}");
    }
    assert_eq!(fold_email(" IDA@Acme.Example"), fold_email("ida@acme.example"));
    // A full-width character is the plain one: not a second user who looks the same.
    assert_eq!(fold_email("ｉda@acme.example"), fold_email("ida@acme.example"));
    assert_ne!(fold_email("іda@acme.example"), fold_email("ida@acme.example"), "Cyrillic і is another address");
}

#[test]
fn names_are_one_line_of_up_to_a_hundred_characters() {
    for fine in ["X", "青木 遥", "Wilhelmina van der Schuyteveld-Anastasopoulos", "O’Brien"] {
        assert!(check_name("name", fine).is_ok(), "{fine}");
    }
    for bad in ["", "  ", "a\nb", "a\u{1b}[0m", &"x".repeat(101)] {
        assert!(check_name("name", bad).is_err(), "{bad:?}");
    }
}

#[test]
fn every_query_walks_an_index() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Db::open(&Db::file(dir.path()), true).expect("a database");
    db.read_blocking(|c| {
        for sql in [
            "SELECT id FROM user WHERE email_folded = 'x'",
            "SELECT u.id FROM membership AS m JOIN user AS u ON u.id = m.user_id
             WHERE m.account_id = 1 AND m.user_id > 'x' ORDER BY m.user_id LIMIT 3",
            "SELECT u.id FROM membership AS m JOIN user AS u ON u.id = m.user_id WHERE m.user_id = 'x' AND m.account_id = 1",
        ] {
            let mut statement = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let plan: Vec<String> = statement.query_map([], |row| row.get(3))?.collect::<rusqlite::Result<_>>()?;
            assert!(plan.iter().all(|step| step.starts_with("SEARCH")), "{sql}: {plan:?}");
        }
        Ok(())
    })
    .expect("planned");
}
