//! One check of the canary, and what its answers lead to.

use crate::{
    api::{HookType, Phase, Severity, status::CanaryStatus},
    observe::Snapshot,
};

use super::super::{
    check::{self, Purpose, Verdict},
    draft::Draft,
    facts::Facts,
    identity,
    judging::{self, Judged},
    notices,
    steps::{self, Progress, Step},
    world,
};
use super::{count_check, extend, promote::start_promotion, roll_back_by_hook, wait_alert};

/// One check, and what its answers lead to.
pub(super) fn analyse(s: &Snapshot, facts: &Facts, d: &mut Draft, judged: &Judged) {
    let analysis = &s.canary.spec.analysis;
    if d.status.failed_checks >= analysis.threshold() {
        return roll_back_by_threshold(s, d);
    }
    let at = Progress {
        step: d.status.step.unwrap_or_default(),
        weight: d.status.canary_weight,
        iterations: d.status.iterations,
    };
    let begun = at.step > 0 || at.weight > 0 || at.iterations > 0;
    let waiting = begun || d.status.failed_checks > 0 || d.status.checks.unwrap_or_default() > 0;
    let planned = steps::next(analysis, facts.can, at);
    let barred = extend::barred(judged, begun, planned);
    // An extended step ends as soon as the judge lets it.
    let at_once = barred.is_none() && extend::is_extended(&d.status);
    if waiting
        && !at_once
        && let Some(due) = d.status.next_check_time.filter(|due| *due > s.now)
    {
        return d.wake_at(due);
    }
    let next = match barred {
        Some(why) if !begun => return extend::wait_to_begin(s, d, judged, why),
        // A gate that holds the promotion is asked until it opens.
        Some(_) if d.status.phase != Phase::WaitingPromotion => Step::Stay,
        Some(_) | None => planned,
    };
    let purpose = if begun {
        Purpose::Analysis
    } else {
        Purpose::Start
    };
    let check = match check::ask(s, facts, &d.status, purpose, next) {
        Ok(check) => check,
        Err(why) => {
            let text = format!("Halt {} advancement {why}", notices::full_name(s));
            return fail_check(s, d, &text);
        }
    };
    // What passes before users get the present step is not that step.
    let late = begun && facts.unsayable.is_none() && !world::in_place(s, facts, &d.status);
    let why_late = || {
        let name = notices::full_name(s);
        format!("Halt {name} advancement, the route is not yet at the present step")
    };
    if late && !s.checks.contains_key(&check.id) {
        d.halt(&why_late());
        return d.check_later(s);
    }
    let Some(answer) = d.answer(s, &check) else {
        return;
    };
    let reading = check::read(s, &check, &answer);
    count_check(&mut d.status);
    if next != Step::Stay {
        extend::end(&mut d.status);
    }
    if reading.metrics.is_some() {
        d.status.metrics = reading.metrics;
    }
    if !begun && d.status.failed_checks == 0 {
        d.tell(notices::normal(format!(
            "Starting canary analysis for {}",
            notices::target(s)
        )));
    }
    d.notices.extend(reading.notices);
    match reading.verdict {
        Verdict::Passed if facts.unsayable.is_some() => {
            // A next step has no route to go by. Checks go on, so that what fails is rolled back.
            let name = notices::full_name(s);
            let why = facts.unsayable.as_deref().unwrap_or_default();
            d.halt(&format!("Halt {name} advancement {why}"));
            d.check_later(s);
        }
        Verdict::Passed if late => {
            d.halt(&why_late());
            d.check_later(s);
        }
        Verdict::Passed => {
            d.status.halt_reason = None;
            d.status.phase = Phase::Progressing;
            if let Some(why) = barred {
                return extend::extend(s, d, why);
            }
            if let Judged::Pass(found) = judged
                && next.exposes()
            {
                let step = d.status.judge.as_ref().map_or("", |record| &record.step);
                d.tell(notices::normal(format!(
                    "Judge passed {} at {step}: {found}",
                    notices::full_name(s)
                )));
            }
            take(s, facts, d, at, next);
        }
        Verdict::RollBack { hook: _ } => roll_back_by_hook(s, d),
        Verdict::Failed { message } => fail_check(s, d, &message),
        Verdict::Held { gate, hook, muted } => hold_at_gate(s, d, gate, &hook, muted),
    }
}

/// Takes a step: the status first, the route follows from it.
fn take(s: &Snapshot, facts: &Facts, d: &mut Draft, at: Progress, next: Step) {
    let name = notices::full_name(s);
    d.status.step = Some(at.step.saturating_add(1));
    match next {
        Step::Promote => return start_promotion(s, d),
        Step::Mirror => {
            d.tell(notices::normal(format!(
                "Advance {name} canary weight 0, mirroring"
            )));
        }
        Step::Weight(weight) => {
            d.status.canary_weight = weight;
            d.tell(notices::normal(format!(
                "Advance {name} canary weight {weight}"
            )));
        }
        Step::Iterate(n) => {
            let of = steps::iterations(&s.canary.spec.analysis, facts.can);
            d.status.iterations = n;
            d.tell(notices::normal(format!(
                "Advance {name} canary iteration {n}/{of}"
            )));
        }
        Step::Switch => {
            d.status.canary_weight = 100;
            let mirrored = s.canary.spec.analysis.mirror.unwrap_or_default() && facts.can.mirror;
            d.tell(notices::normal(if mirrored {
                "Stop traffic mirroring and route all traffic to canary"
            } else {
                "Routing all traffic to canary"
            }));
        }
        // Not a step: the caller extends the one under way.
        Step::Stay => {}
    }
    judging::enter_step(s, facts, &mut d.status);
    give_cookies(s, facts, &mut d.status);
    d.check_later(s);
}

/// Session affinity: a cookie per release, kept in the status before any user gets it.
fn give_cookies(s: &Snapshot, facts: &Facts, status: &mut CanaryStatus) {
    let Some(affinity) = &s.canary.spec.analysis.session_affinity else {
        return;
    };
    if status.canary_weight == 0 || !facts.sticky {
        return;
    }
    let value = identity::letters(s, status, "canary");
    status
        .session_affinity_cookie
        .get_or_insert_with(|| format!("{}={value}", affinity.cookie_name));
    if let Some(name) = &affinity.primary_cookie_name {
        let value = identity::letters(s, status, "primary");
        status
            .primary_session_affinity_cookie
            .get_or_insert_with(|| format!("{name}={value}"));
    }
}

pub(super) fn fail_check(s: &Snapshot, d: &mut Draft, message: &str) {
    d.status.failed_checks = d.status.failed_checks.saturating_add(1);
    d.status.halt_reason = Some(message.to_owned());
    d.tell(notices::warning(message));
    if d.status.failed_checks >= s.canary.spec.analysis.threshold() {
        roll_back_by_threshold(s, d);
    } else {
        d.check_later(s);
    }
}

fn roll_back_by_threshold(s: &Snapshot, d: &mut Draft) {
    let failed = d.status.failed_checks;
    let last = d.status.halt_reason.clone().unwrap_or_default();
    let cause = notices::alert(
        notices::warning(format!(
            "Rolling back {} failed checks threshold reached {failed}",
            notices::full_name(s)
        )),
        Severity::Error,
        format!("Failed checks threshold reached {failed}"),
    );
    d.roll_back(
        s,
        cause,
        &format!("Failed checks threshold reached {failed}: {last}"),
    );
}

fn hold_at_gate(s: &Snapshot, d: &mut Draft, gate: HookType, hook: &str, muted: bool) {
    let name = notices::full_name(s);
    let (what, alert) = if gate == HookType::ConfirmPromotion {
        ("promotion", "Canary promotion is waiting for approval.")
    } else {
        (
            "traffic increase",
            "Canary traffic increase is waiting for approval.",
        )
    };
    let text = format!("Halt {name} advancement waiting for {what} approval {hook}");
    if d.status.halt_reason.as_deref() != Some(&text) {
        d.tell(wait_alert(&text, muted, alert));
    }
    if gate == HookType::ConfirmPromotion {
        d.status.phase = Phase::WaitingPromotion;
    }
    d.status.halt_reason = Some(text);
    d.check_later(s);
}
