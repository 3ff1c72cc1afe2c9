//! `bailiwick demo`: a throw-away appliance in a temporary folder, which goes when the command ends.

use std::{os::unix::fs::DirBuilderExt as _, path::PathBuf};

use bailiwick::{
    app::{self, App, StartError},
    clock::Clock,
    config::Config,
    demo, web,
};

use super::{Failure, say};

/// Removes the folder, also when the demo ends with an error.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "the demo's folder could not be removed");
        }
    }
}

/// A new folder that only we can enter.
pub(super) fn folder() -> Result<PathBuf, Failure> {
    let path = std::env::temp_dir().join(format!("bailiwick-demo-{}", std::process::id()));
    // Left behind by a demo with the same process number that was killed.
    let _ = std::fs::remove_dir_all(&path);
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&path)
        .map_err(|e| Failure::Said(format!("the demo's folder {} could not be made: {e}", path.display())))?;
    Ok(path)
}

pub(super) fn run(config: Config) -> Result<(), Failure> {
    let folder = Folder(config.data_dir.clone());
    let app = App::open(config, Clock::System, true)?;
    let runtime = super::runtime()?;
    let ended = runtime.block_on(async {
        let bound = app.bind()?;
        let base = app::base_url(&app.kernel.config, bound.address, bound.scheme);
        say("Reading the sample directory for the first time …");
        let sign_in = demo::populate(&app.kernel, &app.runner).await.map_err(StartError::from)?;
        say(&format!("\nThe demo is ready: {base}\n  e-mail:   {}", sign_in.email));
        say(&format!("  password: {}\n", sign_in.password.expose()));
        say("The sample directory changes every minute and is read again. Ctrl-C ends the demo and deletes its data.");
        web::run(bound).await.map_err(StartError::from)
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    drop(folder);
    ended.map_err(Failure::from)
}
