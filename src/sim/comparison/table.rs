//! The comparison as Markdown tables.

use std::fmt::Write as _;

use super::{Compared, Tally};

/// The comparison as three tables: healthy versions, defects, ramps.
pub fn markdown(rows: &[Compared]) -> String {
    let mut text = String::new();
    section(
        &mut text,
        rows,
        "healthy",
        "| no worse, 1 h: rolled back | thresholds | judge | judge passes after, s |\n|---|---|---|---|\n",
        |t, j| {
            format!(
                "{} | **{}** | {}",
                share(t.rolled_back, t),
                share(j.rolled_back, j),
                seconds(j.pass_seconds)
            )
        },
    );
    section(
        &mut text,
        rows,
        "defect",
        "| worse: seconds to the rollback | thresholds | judge | judge passed it before |\n|---|---|---|---|\n",
        |t, j| {
            format!(
                "{}{} | **{}**{} | {}",
                seconds(t.seconds),
                missed(t),
                seconds(j.seconds),
                missed(j),
                share(j.passed, j)
            )
        },
    );
    section(
        &mut text,
        rows,
        "ramp",
        "| 1-5-20-50 %, then promotion: promoted, seconds, failed requests in 1 h | thresholds | judge |\n|---|---|---|\n",
        |t, j| {
            let cell = |t: &Tally| {
                let end = t
                    .seconds
                    .map_or_else(dash, |[median, _]| format!("{median:.0}"));
                format!("{}, {end}, {:.0}", share(t.passed, t), t.failed_requests)
            };
            format!("{} | **{}**", cell(t), cell(j))
        },
    );
    text
}

fn section(
    text: &mut String,
    rows: &[Compared],
    question: &str,
    head: &str,
    cells: impl Fn(&Tally, &Tally) -> String,
) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(head);
    for row in rows.iter().filter(|row| row.question == question) {
        // Writing to a string never fails.
        let _ = writeln!(
            text,
            "| {} | {} |",
            row.service,
            cells(&row.thresholds, &row.judge)
        );
    }
}

/// Median and 90th percentile.
fn seconds(of: Option<[f64; 2]>) -> String {
    of.map_or_else(dash, |[median, most]| format!("{median:.0} ({most:.0})"))
}

fn missed(tally: &Tally) -> String {
    let missed = tally.releases - tally.rolled_back;
    if missed == 0 {
        String::new()
    } else {
        format!(", never in {}", share(missed, tally))
    }
}

fn dash() -> String {
    "–".to_owned()
}

fn share(part: u32, of: &Tally) -> String {
    let percent = 100.0 * f64::from(part) / f64::from(of.releases.max(1));
    if part == 0 || part == of.releases {
        format!("{percent:.0} %")
    } else if percent > 99.9 {
        "> 99.9 %".to_owned()
    } else if (10.0..99.0).contains(&percent) {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.1} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_near_the_ends_keep_their_digits() {
        let of = Tally {
            releases: 2000,
            ..Tally::default()
        };
        let texts = [0, 1, 500, 1990, 1999, 2000].map(|part| share(part, &of));
        assert_eq!(
            texts,
            ["0 %", "0.1 %", "25 %", "99.5 %", "> 99.9 %", "100 %"]
        );
    }
}
