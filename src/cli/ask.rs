//! What a command has to learn from whoever runs it: a password, and who they are.

use std::{
    fs,
    io::{IsTerminal as _, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
};

use bailiwick::secret::Secret;
use zeroize::Zeroizing;

/// No password is longer; reading ends here.
const BYTES_MAX: u64 = 4_096;

/// The first line of standard input.
pub fn password_from_stdin() -> Result<Secret<String>, String> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .take(BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|e| format!("the password could not be read from standard input: {e}"))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err("standard input held no password".into());
    }
    Ok(Secret::new(line.to_owned()))
}

/// Asks twice, without showing what is typed.
pub fn password_from_terminal(chars_min: usize) -> Result<Secret<String>, String> {
    if !std::io::stdin().is_terminal() {
        return Err("there is no terminal to ask for the password; give it on standard input with --password-stdin, \
                    or start `bailiwick serve` and use the one-time set-up link that it prints"
            .into());
    }
    // `stty` ships with every system that has a shell; a library would only do the same with more code.
    let echo = |setting: &str| {
        Command::new("stty").arg(setting).stdin(Stdio::inherit()).status().is_ok_and(|status| status.success())
    };
    if !echo("-echo") {
        return Err("the terminal's echo could not be switched off; use --password-stdin".into());
    }
    let entered = (ask_hidden(&format!("Password (at least {chars_min} characters): ")), ask_hidden("Again: "));
    echo("echo");
    match entered {
        (Ok(first), Ok(second)) if first.as_str() == second.as_str() => Ok(Secret::new(first.to_string())),
        (Ok(_), Ok(_)) => Err("the two entries differ; nothing was changed".into()),
        (Err(e), _) | (_, Err(e)) => Err(format!("the password could not be read: {e}")),
    }
}

fn ask_hidden(prompt: &str) -> std::io::Result<Zeroizing<String>> {
    let mut terminal = std::io::stderr();
    write!(terminal, "{prompt}")?;
    terminal.flush()?;
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().read_line(&mut line)?;
    writeln!(terminal)?;
    Ok(Zeroizing::new(line.trim_end_matches(['\n', '\r']).to_owned()))
}

/// The operating-system user that runs this process, by the kernel's word and not by the environment's.
pub fn os_user() -> String {
    let Ok(uid) = fs::metadata("/proc/self").map(|meta| meta.uid()) else { return "unknown".into() };
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id == uid.to_string()).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}
