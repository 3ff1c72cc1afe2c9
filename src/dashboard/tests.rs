//! The overview in each state a directory can be in.

use actix_web::body::to_bytes;
use rusqlite::params;
use scraper::{Html, Selector};

use super::pages;
use crate::{
    clock::{Clock, Time},
    config::Layer,
    db::Db,
    error::Result,
    kernel::Kernel,
    principal::{AccountId, Principal},
    secret::MasterKey,
    web::{Address, Ctx},
};

fn kernel(dir: &std::path::Path) -> Kernel {
    let config = Layer { data_dir: Some(dir.to_owned()), ..Layer::default() }.finish().expect("a configuration");
    Kernel {
        db: Db::open(&Db::file(dir), true).expect("a database"),
        clock: Clock::fixed(Time::parse("2026-03-03T09:00:00Z").expect("a time")),
        key: MasterKey::create(&dir.join("master.key")).expect("a key").into(),
        config: config.into(),
    }
}

fn write(kernel: &Kernel, f: impl FnOnce(&rusqlite::Connection) -> Result<()> + Send + 'static) {
    std::thread::scope(|scope| scope.spawn(|| kernel.db.write_blocking(f)).join().expect("a thread").expect("written"));
}

/// A directory, with what its newest run ended as.
fn add(kernel: &Kernel, id: i64, name: &'static str, applied: Option<i64>, runs: &'static [(i64, &'static str)]) {
    write(kernel, move |c| {
        c.execute(
            "INSERT INTO directory (id, account_id, kind, name, settings, read_credentials, schedule, guard,
                                    applied_run_id, applied_at, identity_count, group_count, created_at, updated_at)
             VALUES (?1, ?2, 'openldap', ?3, '{}', zeroblob(0), '{}', '{}', ?4, ?4 * 1000000, 1200, 30, 0, 0)",
            params![id, AccountId::MIN, name, applied],
        )?;
        for (run, state) in runs {
            c.execute(
                "INSERT INTO run (id, account_id, directory_id, mode, requested_by, state, reason, next_step,
                                  settings_hash, started_at, quarantined)
                 VALUES (?1, ?2, ?3, 'full', 'urn:x:service/scheduler', ?4, 'The server refused the bind.',
                         'Correct the password.', '', ?1 * 1000000, ?1 % 2)",
                params![run, AccountId::MIN, id, state],
            )?;
        }
        Ok(())
    });
}

async fn overview(kernel: &Kernel, principal: Principal) -> Html {
    let ctx = Ctx {
        kernel: kernel.clone(),
        principal,
        address: Address {
            ip: [127, 0, 0, 1].into(),
            request_id: "r".into(),
            user_agent: String::new(),
            is_polling: false,
        },
        csrf: "token".into(),
        session_token: None,
        is_fragment: false,
        is_secure: true,
        path: "/".into(),
        flash: None,
        surroundings: Default::default(),
    };
    let response = pages::overview(ctx).await.expect("a page");
    let bytes = to_bytes(response.into_body()).await.map_err(|_| "no body").expect("a body");
    Html::parse_document(std::str::from_utf8(&bytes).expect("text"))
}

fn texts(page: &Html, selector: &str) -> Vec<String> {
    page.select(&Selector::parse(selector).expect("a selector"))
        .map(|element| element.text().collect::<String>().split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

fn ours() -> Principal {
    Principal::command_line("default", AccountId::new(AccountId::MIN), "root")
}

#[tokio::test]
async fn the_first_page_says_what_to_do_first() {
    let dir = tempfile::tempdir().expect("a folder");
    let kernel = kernel(dir.path());
    write(&kernel, |c| {
        c.execute(
            "INSERT INTO account (id, alias, region, state, created_at) VALUES (?1, 'ours', 'default', 'active', 0)",
            [AccountId::MIN],
        )?;
        Ok(())
    });
    let page = overview(&kernel, ours()).await;
    assert_eq!(texts(&page, ".empty h2"), ["Connect your first directory"]);
    assert_eq!(texts(&page, ".empty .btn--primary"), ["Add a directory"]);
}

#[tokio::test]
async fn every_directory_says_how_it_stands_and_what_needs_attention() {
    let dir = tempfile::tempdir().expect("a folder");
    let kernel = kernel(dir.path());
    write(&kernel, |c| {
        c.execute(
            "INSERT INTO account (id, alias, region, state, created_at) VALUES (?1, 'ours', 'default', 'active', 0)",
            [AccountId::MIN],
        )?;
        Ok(())
    });
    add(&kernel, 1, "A new one", None, &[]);
    add(&kernel, 2, "Broken", Some(10), &[(10, "applied"), (12, "failed"), (14, "failed")]);
    add(&kernel, 3, "Fine", Some(20), &[(20, "applied")]);
    add(&kernel, 4, "Going", Some(30), &[(30, "applied"), (32, "reading")]);
    add(&kernel, 5, "Odd", Some(41), &[(41, "applied")]);
    add(&kernel, 6, "Waiting", Some(50), &[(50, "applied"), (52, "parked")]);
    write(&kernel, |c| {
        c.execute(
            "INSERT INTO identity (id, directory_id, external_id, user_name, sort_key, status, fields, first_seen_at,
                                   changed_at, listed_since_at, missing_since_at)
             VALUES (1, 3, 'x', 'x', 'x', 'locked', '{}', 0, 0, 5, 5)",
            [],
        )?;
        Ok(())
    });
    let page = overview(&kernel, ours()).await;
    assert_eq!(texts(&page, ".stat dd:nth-of-type(1)"), ["7,200", "180", "1", "1"]);
    assert_eq!(
        texts(&page, "table[aria-label=Directories] .state"),
        ["Never read", "Last run failed", "Up to date", "Running", "Up to date", "Waits for approval"]
    );
    assert_eq!(
        texts(&page, ".attention b"),
        [
            "A new one has not been read yet",
            "Broken could not be read",
            "1 identity is missing from Fine",
            "1 object of Odd could not be taken over",
            "A plan for Waiting waits for approval",
        ]
    );
    let since = page
        .select(&Selector::parse(".attention time").expect("a selector"))
        .filter_map(|element| element.value().attr("datetime"))
        .collect::<Vec<_>>();
    assert_eq!(since, ["1970-01-01T00:00:12Z"]);
    assert_eq!(texts(&page, "table[aria-label='Recent runs'] tbody tr").len(), 8);
    let stranger = Principal::stranger("default", None, None);
    assert!(stranger.account().is_err());
    let elsewhere = Principal::command_line("default", AccountId::new(AccountId::MIN + 1), "root");
    assert_eq!(texts(&overview(&kernel, elsewhere).await, ".empty h2"), ["Connect your first directory"]);
}
