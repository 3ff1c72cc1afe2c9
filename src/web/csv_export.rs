//! CSV cells that a spreadsheet shows instead of running.

/// A cell that begins like a formula is put behind an apostrophe (OWASP, CSV injection).
pub fn csv_cell(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}
