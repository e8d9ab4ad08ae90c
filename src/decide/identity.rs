//! Names that must be unique yet the same after a crash: drawn from what they stand for.

use crate::{api::status::CanaryStatus, object::digest, observe::Snapshot};

/// Hexadecimal digest of the Canary, the revision under release, its start, and a purpose.
fn draw(s: &Snapshot, status: &CanaryStatus, purpose: &str) -> String {
    let text = format!(
        "{}/{}/{}/{purpose}",
        s.canary.metadata.uid.as_deref().unwrap_or_default(),
        status.last_applied_spec.as_deref().unwrap_or_default(),
        status.run_time.map(|t| t.to_string()).unwrap_or_default(),
    );
    digest(text.as_bytes(), 16)
}

/// Ten ASCII letters: the value of a session cookie of this release.
pub(super) fn letters(s: &Snapshot, status: &CanaryStatus, purpose: &str) -> String {
    draw(s, status, purpose)
        .bytes()
        .collect::<Vec<_>>()
        .chunks(2)
        .take(10)
        .map(|pair| {
            let sum = pair.iter().fold(0_u32, |sum, hex| {
                16 * sum + char::from(*hex).to_digit(16).unwrap_or_default()
            });
            char::from_digit(10 + sum % 26, 36).unwrap_or('a')
        })
        .collect()
}
