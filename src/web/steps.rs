//! One step of a test that was carried out apart, as pages show it (`layout/steps.html`): the same look wherever one is.

/// A step and how it went. It holds text, no markup.
pub struct StepView {
    /// `ok`, `warning`, `failed` or `skipped`.
    pub code: &'static str,
    pub icon: &'static str,
    pub word: &'static str,
    pub title: String,
    /// What it is about, when there are several; else empty.
    pub target: String,
    pub message: String,
    /// What to do; empty when there is nothing.
    pub fix: String,
}

impl StepView {
    /// `code` as in [`StepView::code`].
    pub fn new(code: &'static str, title: &str, target: Option<&str>, message: &str, fix: Option<&str>) -> Self {
        let (icon, word) = match code {
            "ok" => ("success", "OK"),
            "warning" => ("warning", "Warning"),
            "failed" => ("danger", "Failed"),
            _ => ("dash", "Not tried"),
        };
        Self {
            code,
            icon,
            word,
            title: title.to_owned(),
            target: target.unwrap_or_default().to_owned(),
            message: message.to_owned(),
            fix: fix.unwrap_or_default().to_owned(),
        }
    }
}
