//! Carries out a check.

use std::{collections::BTreeMap, time::Duration};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, join_all},
};
use jiff::Timestamp;

use crate::{
    api::MetricProviderType,
    plan::{Answer, Check, MetricQuery, MetricServer, Outcome, Probe},
};

use super::{Credentials, InstantQuery, Outside, QueryError, reading, webhook};

/// Time in which a metrics server or the API server must have answered.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Credentials by namespace and name of their Secret, each read once, when first asked for.
type Secrets<'a> =
    BTreeMap<&'a (String, String), Shared<BoxFuture<'a, Result<Credentials, String>>>>;

/// Carries out a check: its stages in order, the probes of one stage side by side.
///
/// A stage in which a probe [stops](Probe::stops) the check is the last one that is asked.
pub async fn run(check: &Check, outside: &dyn Outside, now: Timestamp) -> Answer {
    let secrets = secrets(check, outside);
    let mut stages = Vec::with_capacity(check.stages.len());
    for stage in &check.stages {
        let outcomes = join_all(stage.iter().map(|probe| async {
            match probe {
                Probe::Hook(hook) => webhook::call(outside, hook).await,
                Probe::Metric(query) => measure(query, outside, &secrets, now).await,
            }
        }))
        .await;
        let stops = stage
            .iter()
            .zip(&outcomes)
            .any(|(probe, outcome)| probe.stops(outcome));
        stages.push(outcomes);
        if stops {
            break;
        }
    }
    Answer {
        id: check.id.clone(),
        stages,
    }
}

fn secrets<'a>(check: &'a Check, outside: &'a dyn Outside) -> Secrets<'a> {
    let mut secrets = Secrets::new();
    for probe in check.stages.iter().flatten() {
        let Probe::Metric(MetricQuery { server, .. }) = probe else {
            continue;
        };
        if let Some(secret) = &server.secret {
            secrets
                .entry(secret)
                .or_insert_with(|| credentials(secret, outside).boxed().shared());
        }
    }
    secrets
}

/// What a metrics server wants to know, as its Secret has it.
pub(super) async fn credentials_of(
    server: &MetricServer,
    outside: &dyn Outside,
) -> Result<Credentials, String> {
    match &server.secret {
        Some(secret) => credentials(secret, outside).await,
        None => Ok(Credentials::None),
    }
}

async fn credentials(
    (namespace, name): &(String, String),
    outside: &dyn Outside,
) -> Result<Credentials, String> {
    let failed = |why: &str| format!("secret {namespace}/{name}: {why}");
    let data = tokio::time::timeout(TIMEOUT, outside.secret(namespace, name))
        .await
        .map_err(|_| failed("the API server did not answer in time"))?
        .map_err(|error| failed(&error.to_string()))?;
    Credentials::read(&data).map_err(failed)
}

async fn measure(
    query: &MetricQuery,
    outside: &dyn Outside,
    secrets: &Secrets<'_>,
    now: Timestamp,
) -> Outcome {
    if let Some(name) = unsupported(query.server.kind) {
        return Outcome::Unavailable(format!(
            "provider {name} is not supported yet: use a MetricTemplate with provider prometheus"
        ));
    }
    let credentials = match query
        .server
        .secret
        .as_ref()
        .and_then(|key| secrets.get(key))
    {
        None => Credentials::None,
        Some(secret) => match secret.clone().await {
            Ok(credentials) => credentials,
            Err(why) => return Outcome::Unavailable(why),
        },
    };
    let question = InstantQuery {
        server: &query.server,
        credentials: &credentials,
        query: &query.query,
        at: now,
        pinned: false,
    };
    let started = tokio::time::Instant::now();
    let answer = tokio::time::timeout(TIMEOUT, outside.instant_query(question))
        .await
        .unwrap_or(Err(QueryError::TimedOut(TIMEOUT)));
    let elapsed = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    let at = now
        .checked_add(jiff::SignedDuration::from_millis(elapsed))
        .unwrap_or(now);
    reading::outcome(query, answer, at)
}

/// The name of a kind of server that is not asked yet.
fn unsupported(kind: MetricProviderType) -> Option<&'static str> {
    match kind {
        MetricProviderType::Prometheus => None,
        MetricProviderType::Influxdb => Some("influxdb"),
        MetricProviderType::Datadog => Some("datadog"),
        MetricProviderType::Stackdriver => Some("stackdriver"),
        MetricProviderType::Cloudwatch => Some("cloudwatch"),
        MetricProviderType::Newrelic => Some("newrelic"),
        MetricProviderType::Graphite => Some("graphite"),
        MetricProviderType::Dynatrace => Some("dynatrace"),
        MetricProviderType::Keptn => Some("keptn"),
        MetricProviderType::Splunk => Some("splunk"),
        MetricProviderType::Externalmetrics => Some("externalmetrics"),
    }
}
