//! The judge beside a release: when it looks at the counters, and what it finds.
//!
//! It goes on from the status: its state there says which counters were seen last, so that the
//! next look, by whatever process, adds what came since and nothing else. A look is taken in, put
//! into the status and then acted upon, like every decision.

mod record;

use jiff::Timestamp;

use crate::{
    api::{
        Strategy,
        judge::JudgeSpec,
        judge_status::{JudgeStatus, JudgeVerdict},
        status::CanaryStatus,
    },
    measure::{columns, judging::queries, metrics::template_key},
    object::digest,
    observe::{LookState, Snapshot},
    plan::{Effect, LookColumn, LookMetric, LookRequest},
    stats::{Finding, Judge, JudgeConfig, JudgeState, Look, Side, StepId},
};

use super::{
    conditions,
    draft::{Draft, after},
    facts::Facts,
    notices, steps, world,
};

/// How far back the primary is looked at before the first step.
const BASELINE: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// Most evaluation times of that look back.
const MOST_BASELINE: i64 = 40;

/// Age below which a pod is cold: its first requests are slow, whatever its version.
const WARM_UP: std::time::Duration = std::time::Duration::from_mins(1);

/// Time after which an answer is no longer waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);

/// Name of the step in which nobody gets the canary yet.
const BEFORE: &str = "before";

/// What the judge says of the release now.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Judged {
    /// Nobody asked for a judge.
    Absent,
    /// Nothing was seen yet; why, as far as it is known.
    Blind(Option<String>),
    /// The step may not end yet; why.
    Undecided(String),
    /// The step may end; what was found.
    Pass(String),
    /// The release fails; what was found.
    Fail(String),
}

/// What a judge is made of.
struct Course {
    config: JudgeConfig,
    metrics: Vec<LookMetric>,
    /// Tells settings and queries from others.
    digest: String,
    every: std::time::Duration,
}

impl Course {
    fn read(s: &Snapshot, spec: &JudgeSpec) -> Result<Self, String> {
        let analysis = &s.canary.spec.analysis;
        let config = spec
            .config(analysis.strategy())
            .map_err(|error| error.to_string())?;
        let metrics = spec
            .metrics()
            .iter()
            .map(|metric| {
                let template = template_key(&s.canary, metric.template_ref.as_ref())
                    .and_then(|key| s.templates.get(&key));
                queries(&s.canary, &s.settings, metric, template.map(AsRef::as_ref))
                    .map_err(|error| error.to_string())
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            digest: digest(format!("{config:?}{metrics:?}").as_bytes(), 8),
            every: spec.every(analysis.interval()),
            config,
            metrics,
        })
    }
}

/// Takes in what the last look showed, and looks again when a look is due.
pub(super) fn follow(s: &Snapshot, facts: &Facts, d: &mut Draft) -> Judged {
    let analysis = &s.canary.spec.analysis;
    let skipped = s.canary.spec.skip_analysis.unwrap_or_default();
    let Some(spec) = analysis.judge.as_ref().filter(|_| !skipped) else {
        d.status.judge = None;
        return Judged::Absent;
    };
    let step = step_name(s, facts, &d.status);
    let course = Course::read(s, spec);
    let resumed = course.and_then(|course| Ok((resume(s, &course, &step, d)?, course)));
    let ((judge, mut record), course) = match resumed {
        Ok(resumed) => resumed,
        Err(problem) if seen_before(&d.status) => return Judged::Undecided(problem),
        Err(problem) => return Judged::Blind(Some(problem)),
    };
    // Two releases can begin within a second, which is all that their time tells.
    let id = format!(
        "{}/{}/{}/{step}",
        d.status.run_time.map(|t| t.to_string()).unwrap_or_default(),
        d.status.last_applied_spec.as_deref().unwrap_or_default(),
        course.digest
    );
    let seen = s.look.as_deref().filter(|look| look.request.id == id);
    let mut problem = None;
    match seen.map(|look| (look, &look.answer)) {
        Some((look, Some(Ok(columns)))) => {
            let at = d.status.canary_weight;
            let moment = Moment {
                step: &step,
                next: steps::next_share(analysis, facts.can, at),
                cold: is_cold(s),
            };
            take_in(&course, judge, &mut record, look, columns, &moment);
        }
        Some((_, Some(Err(why)))) => problem = Some(blindness(why)),
        Some((_, None)) | None => {}
    }
    look_when_due(s, &course, &record, seen, &id, d);
    let judged = judged(s, &course, &record, problem, &step);
    d.status.judge = (record != JudgeStatus::default()).then_some(record);
    judged
}

fn seen_before(status: &CanaryStatus) -> bool {
    status
        .judge
        .as_ref()
        .is_some_and(|record| record.time.is_some())
}

/// The judge as the status left it; a new one when there is none, or when it was of other settings.
fn resume(
    s: &Snapshot,
    course: &Course,
    step: &str,
    d: &mut Draft,
) -> Result<(Judge, JudgeStatus), String> {
    let fresh = || Judge::new(course.config.clone()).map_err(|error| error.to_string());
    let record = d.status.judge.clone().unwrap_or_default();
    let Some(state) = record.state.as_deref() else {
        return Ok((fresh()?, record));
    };
    let why = if record.config == course.digest {
        let state = serde_json::from_str::<JudgeState>(state).map_err(|error| error.to_string());
        let resumed = state.and_then(|state| {
            Judge::resume(course.config.clone(), state).map_err(|error| error.to_string())
        });
        match resumed {
            Ok(judge) => return Ok((judge, record)),
            Err(_) => "its evidence in the status cannot be read",
        }
    } else {
        "its settings or queries changed"
    };
    d.tell(notices::warning(format!(
        "The judge of {} starts over with a new alpha: {why}",
        notices::full_name(s)
    )));
    let record = JudgeStatus {
        config: course.digest.clone(),
        step: step.to_owned(),
        step_started: record.step_started,
        message: format!("The judge starts over: {why}."),
        ..JudgeStatus::default()
    };
    Ok((fresh()?, record))
}

/// What is known of a step before its slice is seen.
struct Moment<'a> {
    step: &'a str,
    /// The canary's share of traffic after this step, in (0, 1].
    next: f64,
    cold: bool,
}

/// Adds what came since the look before.
fn take_in(
    course: &Course,
    mut judge: Judge,
    record: &mut JudgeStatus,
    look: &LookState,
    columns: &[LookColumn],
    moment: &Moment<'_>,
) {
    let before = record.time;
    let is_new = |column: &&LookColumn| before.is_none_or(|before| column.at > before);
    let again = columns.iter().find(|column| before == Some(column.at));
    let base = again.or(look.request.base.as_deref());
    let new: Vec<&LookColumn> = columns.iter().filter(is_new).collect();
    let Some(last) = new.last() else {
        return;
    };
    if base.is_some_and(|base| columns::keep(Some(base), last).metrics == base.metrics) {
        // Nothing moved: there is nothing to add, nor to write.
        return;
    }
    let all: Vec<&LookColumn> = base.into_iter().chain(new.iter().copied()).collect();
    let mut readings = columns::readings(&course.metrics, &all).into_iter();
    let as_look = |at: Timestamp, since: Option<Timestamp>, metrics| Look {
        t: at.as_duration().as_secs_f64(),
        dt: since.map_or(0.0, |since| at.duration_since(since).as_secs_f64()),
        step: StepId::Name(moment.step.to_owned()),
        next: Some(moment.next),
        cold: moment.cold,
        metrics,
    };
    if let Some(base) = base
        && let Some(metrics) = readings.next()
    {
        judge.rebase(&as_look(base.at, None, metrics));
    }
    // What pods of a release before count while they go is not this canary's.
    let is_exposed = moment.step != BEFORE && before.is_some();
    let mut since = before;
    let mut found: Option<(Finding, Option<String>)> = None;
    for (column, mut metrics) in new.iter().zip(readings) {
        if !is_exposed {
            for reading in metrics.values_mut() {
                reading.canary = Side::Absent;
            }
        }
        let missing = record::missing(&course.config, &metrics).filter(|_| is_exposed);
        found = Some((judge.look(&as_look(column.at, since, metrics)), missing));
        since = Some(column.at);
    }
    let Some((finding, missing)) = found else {
        return;
    };
    if record.step != moment.step {
        begin_step(record, moment.step, last.at);
    }
    record.config.clone_from(&course.digest);
    record.time = Some(last.at);
    record::write(record, &judge, &finding, missing);
    if !is_exposed {
        "The primary was looked at; the canary has not been yet.".clone_into(&mut record.message);
    }
}

/// Whether over a fifth of the canary's pods are young.
fn is_cold(s: &Snapshot) -> bool {
    let young = s
        .ready_since
        .values()
        .filter(|since| after(**since, WARM_UP) > s.now)
        .count();
    young * 5 > s.ready_since.len()
}

fn look_when_due(
    s: &Snapshot,
    course: &Course,
    record: &JudgeStatus,
    seen: Option<&LookState>,
    id: &str,
    d: &mut Draft,
) {
    let asked = seen.map(|look| look.request.asked);
    let wait = if seen.is_some_and(|look| look.answer.is_none()) {
        PATIENCE
    } else {
        course.every
    };
    let last = asked.max(record.time);
    if let Some(due) = last
        .map(|last| after(last, wait))
        .filter(|due| *due > s.now)
    {
        return d.wake_at(due);
    }
    let now = conditions::stamp(s.now);
    let base = record.time.and_then(|time| {
        let look = s.look.as_deref()?;
        let columns = look.answer.iter().flatten().flatten();
        let known = look.request.base.as_deref().into_iter().chain(columns);
        let base = known
            .filter(|column| column.at <= time)
            .fold(None, |kept: Option<LookColumn>, column| {
                Some(columns::keep(kept.as_ref(), column))
            });
        base.filter(|base| base.at == time)
    });
    let times = match record.time {
        Some(_) if base.is_some() => vec![now],
        Some(time) => vec![time, now],
        None => baseline(now, course.every),
    };
    d.effects.push(Effect::Look(LookRequest {
        id: id.to_owned(),
        asked: now,
        times,
        metrics: course.metrics.clone(),
        base: base.map(std::sync::Arc::new),
    }));
    d.wake_at(after(now, PATIENCE));
}

/// The evaluation times of the first look, which shows what the primary is like.
fn baseline(now: Timestamp, every: std::time::Duration) -> Vec<Timestamp> {
    let every = i64::try_from(every.as_secs()).unwrap_or(i64::MAX);
    let every = every.max(BASELINE.as_secs() / MOST_BASELINE);
    let count = BASELINE.as_secs() / every;
    let back = |n: i64| now.checked_sub(jiff::SignedDuration::from_secs(n * every));
    (0..=count).rev().filter_map(|n| back(n).ok()).collect()
}

/// A step by what users get. No step of a release comes twice.
fn step_name(s: &Snapshot, facts: &Facts, status: &CanaryStatus) -> String {
    let traffic = world::wanted_traffic(s, facts, status);
    if traffic.canary_weight > 0 {
        return format!("{} %", traffic.canary_weight);
    }
    let tests = facts.strategy == Strategy::BlueGreen && status.iterations > 0;
    let name = match (traffic.mirrored, traffic.ab, tests) {
        (true, _, _) => "mirrored",
        (_, true, _) => "matched",
        (_, _, true) => "tested",
        (false, false, false) => BEFORE,
    };
    name.to_owned()
}

fn begin_step(record: &mut JudgeStatus, step: &str, now: Timestamp) {
    step.clone_into(&mut record.step);
    record.step_started = Some(now);
    record.verdict = JudgeVerdict::Undecided;
    record.extended = false;
    record.held = false;
}

/// Notes that a step was taken: what was found of the one before says nothing about it.
pub(super) fn enter_step(s: &Snapshot, facts: &Facts, status: &mut CanaryStatus) {
    let step = step_name(s, facts, status);
    if let Some(record) = &mut status.judge
        && record.step != step
    {
        begin_step(record, &step, s.now);
        record.message = format!("The canary was not looked at yet at {step}.");
        record.requests_needed = None;
        record.seconds_needed = None;
    }
}

fn blindness(why: &str) -> String {
    format!(
        "the judge cannot read the counters ({why}); correct spec.metricsServer or the metric's query, or bring the server back"
    )
}

fn judged(
    s: &Snapshot,
    course: &Course,
    record: &JudgeStatus,
    problem: Option<String>,
    step: &str,
) -> Judged {
    let found = record.message.clone();
    let Some(time) = record.time else {
        return Judged::Blind(problem);
    };
    let is_fresh = after(after(time, course.every), course.every) >= s.now;
    match (record.verdict, problem) {
        (JudgeVerdict::Fail, _) => Judged::Fail(found),
        (JudgeVerdict::Pass | JudgeVerdict::Undecided, Some(problem)) => Judged::Undecided(problem),
        (JudgeVerdict::Pass, None) if is_fresh && record.step == step => Judged::Pass(found),
        (JudgeVerdict::Pass, None) => Judged::Undecided(format!(
            "the judge has seen no counter move since {time}; see that the metrics server scrapes the pods and that they get requests"
        )),
        (JudgeVerdict::Undecided, None) => Judged::Undecided(record::doubt(record)),
    }
}
