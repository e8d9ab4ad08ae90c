//! Generated courses of events. What must hold after each write is checked by
//! [`invariants`](crate::invariants); what must hold in the end is checked here.

use haldane::{
    api::{CanaryStatus, Phase},
    object::{Key, Kind, Object},
    workload,
};
use proptest::{prelude::*, sample::select};
use serde_json::json;

use crate::{
    fixtures::{config, initialized},
    toy::{Metrics, Toy},
};

/// Something that happens to a release.
#[derive(Clone, Debug)]
enum Event {
    Push(u8),
    Config(u8),
    Spec(&'static str),
    Metrics(Metrics),
    /// The pods of a workload come or go.
    Down(&'static str, bool),
    /// An image that never becomes ready in a workload, or does again.
    Broken(&'static str, u8, bool),
    Flip(&'static str),
    Request(&'static str),
    RouteEdit(i64),
    ApexEdit,
    ScaleEdit(i64),
    /// The operator dies before the n-th write from now.
    Crash(usize),
    /// The operator looks before the Deployment controller does.
    Look,
    Pass(i64),
}

fn event() -> impl Strategy<Value = Event> {
    let workload = || select(vec!["podinfo", "podinfo-primary"]);
    let specs = vec![
        "{analysis: {stepWeight: 20}}",
        "{analysis: {stepWeight: 30}}",
        "{analysis: {maxWeight: 40}}",
        "{analysis: {threshold: 1}}",
        "{analysis: {stepWeightPromotion: 30}}",
        "{analysis: {stepWeightPromotion: null}}",
        "{skipAnalysis: true}",
        "{skipAnalysis: false}",
        "{suspend: true}",
        "{suspend: false}",
        "{service: {timeout: 5s}}",
    ];
    let metrics = vec![
        Metrics::Pass,
        Metrics::Pass,
        Metrics::Fail,
        Metrics::NoData,
        Metrics::Unavailable,
        Metrics::Never,
    ];
    prop_oneof![
        4 => (1..4_u8).prop_map(Event::Push),
        1 => (0..2_u8).prop_map(Event::Config),
        2 => select(specs).prop_map(Event::Spec),
        3 => select(metrics).prop_map(Event::Metrics),
        2 => (workload(), any::<bool>()).prop_map(|(w, down)| Event::Down(w, down)),
        3 => (workload(), 1..4_u8, any::<bool>()).prop_map(|(w, i, b)| Event::Broken(w, i, b)),
        2 => select(vec!["rollout-gate", "increase-gate", "promotion-gate", "back"]).prop_map(Event::Flip),
        1 => select(vec!["promote", "pause", "resume", "abort", "retry", "dance"]).prop_map(Event::Request),
        1 => (0..=100_i64).prop_map(Event::RouteEdit),
        1 => Just(Event::ApexEdit),
        1 => (0..4_i64).prop_map(Event::ScaleEdit),
        2 => (0..6_usize).prop_map(Event::Crash),
        1 => Just(Event::Look),
        8 => (1..200_i64).prop_map(Event::Pass),
    ]
}

/// Strategies and what goes with them.
fn spec() -> impl Strategy<Value = String> {
    let hooks = "webhooks: [
        {name: rollout-gate, type: confirm-rollout, url: 'http://gate/'},
        {name: increase-gate, type: confirm-traffic-increase, url: 'http://gate/'},
        {name: promotion-gate, type: confirm-promotion, url: 'http://gate/'},
        {name: back, type: rollback, url: 'http://gate/'}]";
    let strategies = vec![
        "stepWeight: 20",
        "stepWeight: null, stepWeights: [5, 50], maxWeight: 60",
        "mirror: true",
        "stepWeight: null, maxWeight: null, iterations: 2",
        "stepWeight: null, maxWeight: null, iterations: 2, mirror: true",
        "stepWeight: null, maxWeight: null, iterations: 2, match: [{headers: {x-canary: {exact: insider}}}]",
        "stepWeightPromotion: 40",
        "sessionAffinity: {cookieName: v, primaryCookieName: p}",
    ];
    let providers = vec!["istio", "istio", "istio", "kubernetes"];
    (select(strategies), select(providers), any::<bool>()).prop_map(
        move |(strategy, provider, gates)| {
            let hooks = if gates { hooks } else { "webhooks: null" };
            format!("{{provider: {provider}, analysis: {{{strategy}, {hooks}}}}}")
        },
    )
}

fn happen(toy: &mut Toy, event: &Event) {
    toy.note(format!("{event:?}"));
    match event {
        Event::Push(n) => toy.push(&format!("podinfo:{n}")),
        Event::Config(n) => toy.put(config(["blue", "red"][usize::from(*n)])),
        Event::Spec(change) => toy.edit_spec(change),
        Event::Metrics(metrics) => {
            toy.metrics = *metrics;
            toy.answer();
        }
        Event::Down(workload, true) => {
            toy.workloads.faults.down.insert((*workload).to_owned());
        }
        Event::Down(workload, false) => {
            toy.workloads.faults.down.remove(*workload);
        }
        Event::Broken(workload, n, broken) => {
            let entry = ((*workload).to_owned(), format!("podinfo:{n}"));
            if *broken {
                toy.workloads.faults.broken.insert(entry);
            } else {
                toy.workloads.faults.broken.remove(&entry);
            }
        }
        Event::Flip(hook) => {
            if !toy.flipped.remove(*hook) {
                toy.flipped.insert((*hook).to_owned());
            }
        }
        Event::Request(request) => toy.request(request),
        Event::RouteEdit(weight) => toy.edit(
            Kind::VirtualService,
            "podinfo",
            &json!({"spec": {"http": [{"route": [
                {"destination": {"host": "podinfo-primary"}, "weight": 100 - weight},
                {"destination": {"host": "podinfo-canary"}, "weight": weight},
            ]}]}}),
        ),
        Event::ApexEdit => toy.edit(
            Kind::Service,
            "podinfo",
            &json!({"spec": {"selector": {"app": "podinfo"}}}),
        ),
        Event::ScaleEdit(replicas) => {
            toy.edit(
                Kind::Deployment,
                "podinfo",
                &json!({"spec": {"replicas": replicas}}),
            );
        }
        Event::Crash(writes) => toy.dies_before = Some(toy.writes + writes),
        Event::Look => toy.look(),
        Event::Pass(seconds) => toy.run(*seconds),
    }
}

/// Faults stop: everything is well again and gates are open.
fn calm_down(toy: &mut Toy) {
    toy.note("calm".to_owned());
    toy.workloads.faults = crate::kubernetes::Faults::default();
    toy.flipped.clear();
    toy.metrics = Metrics::Pass;
    toy.dies_before = None;
    toy.answer();
    toy.edit_spec("{suspend: false, skipAnalysis: false}");
    toy.run(60);
    if toy.status().paused.unwrap_or_default() {
        toy.request("resume");
    }
    toy.run(4 * 3600);
}

/// L1, L6, R3: what must hold once nothing happens any more.
fn check_rest(toy: &Toy) {
    toy.assert_at_rest();
    let status: CanaryStatus = toy.status();
    assert!(
        matches!(
            status.phase,
            Phase::Initialized | Phase::Succeeded | Phase::Failed
        ),
        "L1: not at an end\n{}",
        toy.story()
    );
    let target = toy.get(Kind::Deployment, "podinfo").clone();
    let revision = workload::revision(&Object::read(Kind::Deployment, target).unwrap());
    let promoted = toy.image("podinfo") == toy.image("podinfo-primary");
    let failed = status.phase == Phase::Failed
        && status.last_applied_spec.as_deref() == Some(revision.as_str());
    assert!(
        promoted || failed,
        "R3: a revision was lost\n{}",
        toy.story()
    );
    assert_eq!(status.canary_weight, 0, "{}", toy.story());
    assert!(toy.weight().abs() < f64::EPSILON, "{}", toy.story());
    let ready = toy.workloads.ready(&toy.objects, "podinfo-primary", None);
    assert!(ready > 0, "users are served by nobody\n{}", toy.story());
    let copy = toy.get(Kind::ConfigMap, "settings-primary")["data"]["color"].clone();
    let now = toy.objects[&Key::new(Kind::ConfigMap, "test", "settings")]["data"]["color"].clone();
    assert!(
        copy == now || status.phase == Phase::Failed,
        "a config was lost\n{}",
        toy.story()
    );
}

/// Few by default, as each is a whole course of a release; more with `PROPTEST_CASES`.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn release_under_any_events_is_safe_and_comes_to_rest(
        spec in spec(),
        events in proptest::collection::vec(event(), 1..30),
    ) {
        let mut toy = initialized(&spec);
        for event in &events {
            happen(&mut toy, event);
        }
        calm_down(&mut toy);
        check_rest(&toy);
    }
}
