//! `HorizontalPodAutoscalers`, and KEDA's `ScaledObjects`: as many replicas as the load asks for.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Controllers, behaviour, condition, integer, items, later, next_condition,
    replica_set::is_ready, text,
};
use crate::sim::{prometheus::Prometheus, promql, server::Object};

/// Requests a second of each pod, by UID: an average of late.
pub type Busy = Arc<Mutex<BTreeMap<String, f64>>>;

/// What autoscalers go by.
#[derive(Clone, Default)]
pub struct Measured {
    /// Requests a second of each pod.
    pub busy: Busy,
    /// The metrics server.
    pub prometheus: Arc<Mutex<Prometheus>>,
}

/// Time between two looks at the load.
const SYNC: Duration = Duration::from_secs(15);

/// How long a lower number has to be enough before it counts.
const STABILISATION: i64 = 300;

/// Differences up to this share of the target are left alone.
const TOLERANCE: f64 = 0.1;

/// Processor time that a pod uses without requests, in thousandths of a core.
const IDLE_MILLIS: f64 = 2.0;

const HPAS: (&str, &str) = ("autoscaling", "horizontalpodautoscalers");
const SCALED_OBJECTS: (&str, &str) = ("keda.sh", "scaledobjects");

/// What an autoscaler remembers.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    next: Option<Timestamp>,
    /// What each asked for in the past, by UID.
    asked: BTreeMap<String, VecDeque<(Timestamp, i64)>>,
    /// When a `ScaledObject`'s triggers were last active, by UID.
    active: BTreeMap<String, Timestamp>,
}

/// What is scaled.
struct Scaled {
    group: String,
    plural: String,
    object: Arc<Object>,
    /// Replicas wanted now.
    current: i64,
    /// Its pods that are ready.
    ready: Vec<Arc<Object>>,
}

impl Controllers {
    pub(super) fn autoscalers(&mut self) {
        let autoscalers = self.server.list(HPAS.0, HPAS.1, "");
        let scaled_objects = self.server.list(SCALED_OBJECTS.0, SCALED_OBJECTS.1, "");
        if autoscalers.is_empty() && scaled_objects.is_empty() {
            return;
        }
        let now = self.clock.now();
        match self.scaling.next.filter(|next| *next > now) {
            Some(next) => return self.wake_at(next),
            None => self.scaling.next = Some(later(now, SYNC)),
        }
        self.wake_at(later(now, SYNC));
        for autoscaler in &autoscalers {
            if !autoscaler.terminating() {
                self.autoscaler(autoscaler);
            }
        }
        for scaled_object in &scaled_objects {
            if !scaled_object.terminating() {
                self.scaled_object(scaled_object);
            }
        }
    }

    fn scaled(&self, namespace: &str, reference: &Value) -> Option<Scaled> {
        let version = reference["apiVersion"].as_str().unwrap_or("apps/v1");
        let kind = reference["kind"].as_str().unwrap_or("Deployment");
        let resource = self.server.resource_of(version, kind)?;
        let (group, plural) = (resource.group.clone(), resource.plural.clone());
        let name = reference["name"].as_str()?;
        let object = self.server.get(&group, &plural, namespace, name)?;
        let labels = object.value()["spec"]["selector"]["matchLabels"].as_object()?;
        let mut ready = self.server.list("", "pods", namespace);
        ready.retain(|pod| {
            let found = &pod.value()["metadata"]["labels"];
            let chosen = labels.iter().all(|(key, value)| found[key] == *value);
            chosen && is_ready(pod) && !pod.terminating()
        });
        Some(Scaled {
            current: integer(object.value(), "/spec/replicas").unwrap_or(1),
            group,
            plural,
            object,
            ready,
        })
    }

    fn autoscaler(&mut self, autoscaler: &Object) {
        let spec = &autoscaler.value()["spec"];
        let Some(scaled) = self.scaled(autoscaler.namespace(), &spec["scaleTargetRef"]) else {
            let text = "the HPA controller was unable to get the target's current scale";
            self.tell(
                HPAS,
                autoscaler,
                None,
                &[("AbleToScale", "False", "FailedGetScale", text)],
            );
            return;
        };
        let current = scaled.current;
        let able = ("AbleToScale", "True", "SucceededRescale", "");
        if current == 0 {
            let text = "scaling is disabled since the replica count of the target is zero";
            let idle = ("ScalingActive", "False", "ScalingDisabled", text);
            self.tell(HPAS, autoscaler, Some((0, 0)), &[able, idle]);
            return;
        }
        let cpu = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        let metrics = match items(spec, "/metrics") {
            [] => items(&cpu, ""),
            metrics => metrics,
        };
        let asked = metrics
            .iter()
            .filter_map(|metric| self.by_resource(metric, &scaled));
        let asked = asked.max();
        let least = integer(spec, "/minReplicas").unwrap_or(1);
        let most = integer(spec, "/maxReplicas").unwrap_or(least).max(least);
        let window = integer(spec, "/behavior/scaleDown/stabilizationWindowSeconds");
        let wanted = self.steady(autoscaler, asked.unwrap_or(current), window);
        let wanted = wanted.clamp(least, most);
        self.rescale(&scaled, wanted);
        let active = match asked {
            Some(_) => ("ScalingActive", "True", "ValidMetricFound", ""),
            None => (
                "ScalingActive",
                "False",
                "FailedGetResourceMetric",
                "unable to get resource metric cpu: no metrics returned",
            ),
        };
        self.tell(HPAS, autoscaler, Some((current, wanted)), &[able, active]);
    }

    /// Replicas for a metric of the pods' processors; none when it cannot be computed.
    fn by_resource(&self, metric: &Value, scaled: &Scaled) -> Option<i64> {
        if text(metric, "/type") != "Resource" || text(metric, "/resource/name") != "cpu" {
            return None;
        }
        let target = &metric["resource"]["target"];
        let (mut used, mut requested, mut count) = (0.0, 0.0, 0);
        let busy = self.measured.busy.lock();
        let busy = busy.unwrap_or_else(PoisonError::into_inner);
        for pod in &scaled.ready {
            let image = text(pod.value(), "/spec/containers/0/image");
            let rate = busy.get(pod.uid()).copied().unwrap_or_default();
            // Milliseconds a second are thousandths of a core.
            used += IDLE_MILLIS + rate * behaviour(&self.behaviours, image).cpu_ms;
            let requests = items(pod.value(), "/spec/containers").iter();
            requested += requests
                .filter_map(|container| millis(text(container, "/resources/requests/cpu")))
                .sum::<f64>();
            count += 1;
        }
        if count == 0 {
            return None;
        }
        let ratio = match integer(target, "/averageUtilization") {
            Some(_) if requested <= 0.0 => return None,
            Some(percent) => 100.0 * used / requested / float(percent.max(1)),
            None => used / float(count) / millis(text(target, "/averageValue"))?,
        };
        if (ratio - 1.0).abs() <= TOLERANCE {
            return Some(scaled.current);
        }
        Some(ceil(float(count) * ratio))
    }

    fn scaled_object(&mut self, scaled_object: &Object) {
        let spec = &scaled_object.value()["spec"];
        let Some(scaled) = self.scaled(scaled_object.namespace(), &spec["scaleTargetRef"]) else {
            let text = "ScaledObject doesn't have correct scaleTargetRef specification";
            let failed = ("Ready", "False", "ScaledObjectCheckFailed", text);
            self.tell(SCALED_OBJECTS, scaled_object, None, &[failed]);
            return;
        };
        let ready = (
            "Ready",
            "True",
            "ScaledObjectReady",
            "ScaledObject is defined correctly and is ready for scaling",
        );
        let annotations = &scaled_object.value()["metadata"]["annotations"];
        let paused = annotations["autoscaling.keda.sh/paused-replicas"].as_str();
        let held = annotations["autoscaling.keda.sh/paused"] == "true";
        if let Some(count) = paused.and_then(|count| count.parse().ok()) {
            self.rescale(&scaled, count);
        }
        if held || paused.is_some() {
            let paused = (
                "Paused",
                "True",
                "ScaledObjectPaused",
                "ScaledObject is paused",
            );
            self.tell(SCALED_OBJECTS, scaled_object, None, &[ready, paused]);
            return;
        }
        let (mut asked, mut active) = (0, false);
        for trigger in items(spec, "/triggers") {
            if let Some((count, wakes)) = self.by_trigger(trigger, &scaled) {
                asked = asked.max(count);
                active |= wakes;
            }
        }
        let now = self.clock.now();
        let uid = scaled_object.uid().to_owned();
        if active {
            self.scaling.active.insert(uid.clone(), now);
        }
        let since = *self.scaling.active.entry(uid).or_insert(now);
        let cooldown = integer(spec, "/cooldownPeriod").unwrap_or(300);
        let cooldown = Duration::from_secs(u64::try_from(cooldown).unwrap_or_default());
        let least = integer(spec, "/minReplicaCount").unwrap_or(0);
        let most = integer(spec, "/maxReplicaCount").unwrap_or(100).max(1);
        let wanted = if active {
            asked.max(least).clamp(1, most)
        } else if now >= later(since, cooldown) || scaled.current == 0 {
            least
        } else {
            scaled.current.max(least)
        };
        let window =
            "/advanced/horizontalPodAutoscalerConfig/behavior/scaleDown/stabilizationWindowSeconds";
        let wanted = match wanted {
            0 => 0,
            wanted => self.steady(scaled_object, wanted, integer(spec, window)),
        };
        self.rescale(&scaled, wanted);
        let active = if active {
            (
                "Active",
                "True",
                "ScalerActive",
                "Scaling is performed because triggers are active",
            )
        } else {
            (
                "Active",
                "False",
                "ScalerNotActive",
                "Scaling is not performed because triggers are not active",
            )
        };
        let paused = ("Paused", "False", "ScaledObjectNotPaused", "");
        self.tell(
            SCALED_OBJECTS,
            scaled_object,
            None,
            &[ready, active, paused],
        );
    }

    /// Replicas for a trigger, and whether it wakes a workload that has none.
    fn by_trigger(&self, trigger: &Value, scaled: &Scaled) -> Option<(i64, bool)> {
        let number = |field: &str| text(trigger, field).parse::<f64>().ok();
        match text(trigger, "/type") {
            "prometheus" => {
                let server = self.measured.prometheus.lock();
                let server = server.unwrap_or_else(PoisonError::into_inner);
                let at = self.clock.now().as_millisecond();
                let value = match server.query(text(trigger, "/metadata/query"), at).ok()? {
                    promql::Value::Scalar(value) => value,
                    promql::Value::Vector(vector) => {
                        vector.first().map_or(0.0, |(_, value)| *value)
                    }
                    promql::Value::Ranges => return None,
                };
                let wakes = value > number("/metadata/activationThreshold").unwrap_or_default();
                let threshold = number("/metadata/threshold").filter(|number| *number > 0.0)?;
                value.is_finite().then(|| (ceil(value / threshold), wakes))
            }
            "cpu" => {
                let percent = number("/metadata/value")?;
                let target = json!({"type": "Utilization", "averageUtilization": ceil(percent)});
                let metric =
                    json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
                Some((self.by_resource(&metric, scaled)?, true))
            }
            _ => None,
        }
    }

    /// The most that was asked for of late: fewer replicas must be enough for a while.
    fn steady(&mut self, scaler: &Object, asked: i64, window: Option<i64>) -> i64 {
        let window = u64::try_from(window.unwrap_or(STABILISATION)).unwrap_or_default();
        let window = Duration::from_secs(window);
        let now = self.clock.now();
        let past = self
            .scaling
            .asked
            .entry(scaler.uid().to_owned())
            .or_default();
        past.push_back((now, asked));
        while past.front().is_some_and(|(at, _)| later(*at, window) < now) {
            past.pop_front();
        }
        past.iter().map(|(_, asked)| *asked).max().unwrap_or(asked)
    }

    fn rescale(&self, scaled: &Scaled, wanted: i64) {
        if scaled.current != wanted {
            let names = (scaled.group.as_str(), scaled.plural.as_str());
            self.merge(names, &scaled.object, json!({"spec": {"replicas": wanted}}));
        }
    }

    /// Writes the status of a scaler: replicas that are and that are wanted, and conditions.
    fn tell(
        &self,
        names: (&str, &str),
        scaler: &Object,
        replicas: Option<(i64, i64)>,
        conditions: &[(&str, &str, &str, &str)],
    ) {
        let now = self.now();
        let told = conditions.iter().map(|(kind, status, reason, message)| {
            let mut told = next_condition(
                scaler.value(),
                &now,
                (kind, status, reason, (*message).to_owned()),
            );
            if let Some(map) = told.as_object_mut() {
                map.remove("lastUpdateTime");
                if names == SCALED_OBJECTS {
                    map.remove("lastTransitionTime");
                }
            }
            told
        });
        let mut status = json!({"conditions": told.collect::<Vec<_>>()});
        if let Some((current, desired)) = replicas {
            status["currentReplicas"] = json!(current);
            status["desiredReplicas"] = json!(desired);
        } else if names == HPAS {
            status["desiredReplicas"] = json!(0);
        }
        if names == HPAS {
            status["currentMetrics"] = Value::Null;
        }
        let same = conditions.iter().all(|(kind, status, reason, _)| {
            condition(scaler.value(), kind)
                .is_some_and(|old| old["status"] == *status && old["reason"] == *reason)
        }) && ["currentReplicas", "desiredReplicas"]
            .iter()
            .all(|field| scaler.value()["status"][*field] == status[*field]);
        if !same {
            self.write_status(names, scaler, status);
        }
    }
}

/// Thousandths of a core in a quantity of processors, such as `250m` or `1.5`.
fn millis(quantity: &str) -> Option<f64> {
    match quantity.strip_suffix('m') {
        Some(number) => number.parse().ok(),
        None => quantity.parse::<f64>().ok().map(|cores| 1000.0 * cores),
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are small")]
fn float(count: i64) -> f64 {
    count as f64
}

/// The next whole number, as far as there are replicas.
#[allow(clippy::cast_possible_truncation, reason = "clamped")]
fn ceil(number: f64) -> i64 {
    number.ceil().clamp(0.0, 10_000.0) as i64
}
