//! Invitations that end while somebody has their page open, or in the very moment in which they accept.

use reqwest::Method;
use serde_json::json;

use super::{
    TestApp,
    invitations::{GUEST, invite, landing, newcomer},
};

#[tokio::test]
async fn what_ends_while_the_page_is_open_lets_nobody_in_and_is_said() {
    let app = TestApp::start();
    app.other_account("globex", "root@globex.example");
    let api = app.api(&app.key(app.account, "full-access"));
    let desk = json!({"id": "desk", "name": "Desk", "services": {"audit": "read"}});
    assert_eq!(api.post("/api/roles", &desk).await.0, 201);
    // Everybody has the page before anything happens.
    let mut open = Vec::new();
    for (email, role) in [("revoked@guest.example", "read-only"), ("again@guest.example", "read-only"), (GUEST, "desk")]
    {
        let (id, token) = invite(&api, email, role).await;
        let mut guest = app.browser();
        let form = guest.token(&landing(&token)).await;
        open.push((id, token, guest, form));
    }
    let (_, joining) = invite(&api, "root@globex.example", "desk").await;
    let mut joiner = app.signed_in_as("root@globex.example").await;
    let form = joiner.token(&landing(&joining)).await;
    assert_eq!(api.send(Method::DELETE, &format!("/api/invitations/{}", open[0].0), None).await.0, 204);
    assert_eq!(api.post(&format!("/api/invitations/{}/resend", open[1].0), &json!({})).await.0, 200);
    app.sql("DELETE FROM role WHERE id = 'desk'");
    let mut answers = Vec::new();
    for (_, token, guest, form) in &mut open {
        let mut fields = newcomer(token).to_vec();
        fields.push(("csrf", form));
        let answer = guest.post_raw("/invitation", &fields, &[]).await;
        assert!(guest.session().is_none());
        answers.push((answer.status().as_u16(), answer.text().await.expect("a page")));
    }
    assert_eq!(answers.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [404, 404, 409]);
    assert!(answers[0].1.contains("This invitation does not work"), "{}", answers[0].1);
    assert!(answers[2].1.contains("was removed"), "{}", answers[2].1);
    let answer = joiner.post_raw("/invitation/join", &[("csrf", &form), ("token", &joining)], &[]).await;
    assert_eq!(answer.status(), 409);
    assert!(answer.text().await.expect("a page").contains("was removed"));
    assert_eq!(joiner.get("/profile").await.status(), 200, "where they were, they still are");
    assert_eq!(app.count("SELECT count(*) FROM user"), 2);
    assert_eq!(app.count("SELECT count(*) FROM membership"), 2);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn of_accepting_and_ending_an_invitation_at_once_one_wins() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "full-access"));
    for round in 0..6 {
        let (id, token) = invite(&api, &format!("g{round}@guest.example"), "read-only").await;
        let mut guest = app.browser();
        let form = guest.token(&landing(&token)).await;
        let mut fields = newcomer(&token).to_vec();
        fields.push(("csrf", &form));
        let path = format!("/api/invitations/{id}");
        let users = app.count("SELECT count(*) FROM membership");
        let accepting = guest.post_raw("/invitation", &fields, &[]);
        let (accepted, ended) = if round % 2 == 0 {
            let (accepted, ended) = tokio::join!(accepting, api.send(Method::DELETE, &path, None));
            (accepted, (ended.0, 204))
        } else {
            let resend = format!("{path}/resend");
            let none = json!({});
            let (accepted, ended) = tokio::join!(accepting, api.post(&resend, &none));
            (accepted, (ended.0, 200))
        };
        let is_in = accepted.status() == 303;
        let expected = if is_in { (303, 409) } else { (404, ended.1) };
        assert_eq!((accepted.status().as_u16(), ended.0), expected, "round {round}");
        assert_eq!(app.count("SELECT count(*) FROM membership"), users + i64::from(is_in), "round {round}");
        assert_eq!(guest.session().is_some(), is_in);
    }
}
