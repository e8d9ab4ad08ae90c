//! What is released in a trial, what people do meanwhile, and what has to come of it.

use std::{sync::LazyLock, time::Duration};

use haldane::{
    api::{Phase, REQUEST},
    sim::{Answer, behaviour::Behaviour, manifests},
};
use serde_json::{Value, json};

use crate::worlds;

/// Where gates ask.
pub const GATE: &str = "http://gate.test/";

/// When users come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// Once the Canary is initialized: the apex is new.
    WhenReady,
    /// Before there is a Canary.
    BeforeCanary,
    /// Never.
    Nobody,
}

/// What somebody does.
#[derive(Clone, Debug)]
pub enum Deed {
    /// Push an image.
    Push(&'static str),
    /// Annotate the Canary with a request.
    Ask(&'static str),
    /// Create or replace an object.
    Apply(Value),
    /// Change an object by a merge patch; the server may refuse it.
    Edit(&'static str, &'static str, &'static str, Value),
    /// Set the Canary's spec to this, and nothing else.
    Restore(Value),
    /// Apply manifests again, as Git operations do: fields that they have get their values back.
    Reapply(Vec<Value>),
    /// Delete an object.
    Delete(&'static str, &'static str, &'static str),
    /// Answer at [`GATE`] like this.
    Gate(Answer),
    /// Pods of an image that start from now on behave like this.
    Behave(&'static str, Behaviour),
}

/// A deed and when it is done.
#[derive(Clone, Debug)]
pub struct Act {
    /// Phase and, if it matters, weight in the status.
    pub when: Option<(Phase, Option<i64>)>,
    /// Seconds since the act before.
    pub rest: u64,
    /// Whether the target was scaled down after its release by then.
    pub settled: bool,
    pub deed: Deed,
}

/// Done at this phase.
pub fn at(phase: Phase, deed: Deed) -> Act {
    let when = Some((phase, None));
    Act {
        when,
        rest: 0,
        settled: false,
        deed,
    }
}

/// Done at this weight of the analysis.
fn on(weight: i64, deed: Deed) -> Act {
    let when = Some((Phase::Progressing, Some(weight)));
    Act {
        when,
        rest: 0,
        settled: false,
        deed,
    }
}

/// Done so many seconds after the act before, wherever the release stands.
pub fn after(rest: u64, deed: Deed) -> Act {
    Act {
        when: None,
        rest,
        settled: false,
        deed,
    }
}

pub fn push(image: &'static str) -> Act {
    at(Phase::Initialized, Deed::Push(image))
}

fn crashing() -> Behaviour {
    Behaviour {
        start_seconds: None,
        ..Behaviour::default()
    }
}

/// Patches the Canary `shop`.
fn edit_canary(patch: Value) -> Deed {
    Deed::Edit("flagger.app", "canaries", "shop", patch)
}

/// What is released, and what may come of it.
#[allow(clippy::struct_excessive_bools, reason = "each is one fact of a story")]
#[derive(Clone)]
pub struct Flow {
    pub name: &'static str,
    pub manifests: Vec<Value>,
    pub acts: Vec<Act>,
    /// Images that must never be promoted.
    pub bad: Vec<&'static str>,
    pub steps: Vec<i64>,
    /// Most that an unproven canary may ever get, in percent.
    pub most: i64,
    pub runs: usize,
    /// The phase at the end; none when the Canary is gone by then.
    pub end: Option<Phase>,
    /// Whether the release may fail as well.
    pub may_fail: bool,
    pub interval: Duration,
    pub drain: Duration,
    /// Seconds by which proxies follow late.
    pub lag: u64,
    pub outage: bool,
    pub users: Users,
    /// Which gate is closed at first.
    pub gate: Option<&'static str>,
    /// Whether steps are those of the plan, or were edited meanwhile.
    pub planned: bool,
    /// Pods of the target at the end.
    pub pods: i64,
    /// Whether the analysis is skipped.
    pub skips: bool,
    /// Whether another Canary takes over when this one is gone.
    pub inherited: bool,
    /// Whether panics were planted, which must harm nobody else.
    pub panics: bool,
}

impl Flow {
    /// Time between two checks where proxies are quick.
    pub const INTERVAL: Duration = Duration::from_secs(10);

    fn new(name: &'static str, analysis: &Value, steps: &[i64]) -> Self {
        let mut manifests = manifests::application("shop");
        manifests[0]["metadata"]["annotations"] = json!({"team/owner": "shop"});
        let spec = manifests[1]["spec"]["analysis"].as_object_mut().unwrap();
        spec.remove("stepWeight");
        spec.remove("maxWeight");
        spec.insert("interval".to_owned(), json!("10s"));
        for (key, value) in analysis.as_object().unwrap() {
            spec.insert(key.clone(), value.clone());
        }
        Self {
            name,
            manifests,
            acts: vec![push("shop:1.1")],
            bad: Vec::new(),
            steps: steps.to_vec(),
            most: 100,
            runs: 1,
            end: Some(Phase::Succeeded),
            may_fail: false,
            interval: Self::INTERVAL,
            drain: Duration::from_secs(10),
            lag: 1,
            outage: false,
            users: Users::WhenReady,
            gate: None,
            planned: true,
            pods: 0,
            skips: false,
            inherited: false,
            panics: false,
        }
    }

    /// A release in two steps of weights, with more in its analysis.
    fn steps(name: &'static str, more: &Value) -> Self {
        let mut analysis = json!({"stepWeight": 25, "maxWeight": 50});
        for (key, value) in more.as_object().unwrap() {
            analysis[key] = value.clone();
        }
        Self::new(name, &analysis, &[25, 50])
    }

    pub fn plain(name: &'static str) -> Self {
        Self::steps(name, &json!({}))
    }

    fn acts(mut self, acts: Vec<Act>) -> Self {
        self.acts = acts;
        self
    }

    pub fn ends(mut self, end: Phase) -> Self {
        self.end = Some(end);
        self
    }

    fn runs(mut self, runs: usize) -> Self {
        self.runs = runs;
        self
    }

    pub fn spec(mut self, change: &Value) -> Self {
        merge(&mut self.manifests[1]["spec"], change);
        self
    }

    /// A flow in which a hook of this kind asks at [`GATE`], which refuses at first.
    fn gated(name: &'static str, kind: &'static str) -> Self {
        let hooks = json!([{"name": "gate", "type": kind, "url": GATE}]);
        let mut flow = Self::steps(name, &json!({"webhooks": hooks}));
        flow.gate = Some(kind);
        flow
    }

    /// The same flow with proxies that follow so many seconds late: drain and interval leave them
    /// that time, as they have to.
    pub fn lagging(mut self, lag: u64) -> Self {
        self.lag = lag;
        if lag <= 1 {
            return self;
        }
        // A check has to see more than the first moments of a step.
        self.interval += Duration::from_secs(lag + 20);
        self.drain += Duration::from_secs(lag);
        let interval = self.interval;
        for manifest in &mut self.manifests {
            patient(manifest, lag, interval);
        }
        for act in &mut self.acts {
            act.rest += lag * u64::from(act.rest > 0);
            match &mut act.deed {
                Deed::Apply(manifest) => patient(manifest, lag, interval),
                Deed::Reapply(manifests) => {
                    for manifest in manifests {
                        patient(manifest, lag, interval);
                    }
                }
                Deed::Push(_)
                | Deed::Ask(_)
                | Deed::Edit(..)
                | Deed::Restore(_)
                | Deed::Delete(..)
                | Deed::Gate(_)
                | Deed::Behave(..) => {}
            }
        }
        self
    }

    /// Every flow that is tried.
    pub fn all() -> Vec<Self> {
        [
            strategies(),
            failures(),
            revisions(),
            gates(),
            requests(),
            deletions(),
            around(),
            worlds::flows(),
        ]
        .concat()
    }

    /// Does more at one of four moments: before the release, at its first step, at its last, or when
    /// it is promoted.
    pub fn insert(&mut self, moment: usize, deeds: Vec<(u64, Deed)>) {
        let (first, last) = (self.steps.first().copied(), self.steps.last().copied());
        let when = [
            (Phase::Initialized, None),
            (Phase::Progressing, first),
            (Phase::Progressing, last),
            (Phase::Promoting, None),
        ];
        let mut when = Some(when[moment]);
        let acts = deeds.into_iter().map(|(rest, deed)| {
            let rest = if when.is_some() { 0 } else { rest };
            Act {
                when: when.take(),
                rest,
                settled: false,
                deed,
            }
        });
        let acts: Vec<Act> = acts.collect();
        let place = usize::from(moment > 0);
        if moment == 0 {
            // Whatever became of it meanwhile.
            (self.acts[0].when, self.acts[0].rest) = (None, 30);
        }
        self.acts.splice(place..place, acts);
    }

    pub fn named(name: &str) -> Self {
        static ALL: LazyLock<Vec<Flow>> = LazyLock::new(Flow::all);
        let found = ALL.iter().find(|flow| flow.name == name);
        found.unwrap_or_else(|| panic!("no flow {name}")).clone()
    }
}

/// As the owner of an application with slow proxies has it: pods serve for so many seconds more when
/// they are to end, and steps last longer.
fn patient(manifest: &mut Value, lag: u64, interval: Duration) {
    if manifest["kind"] == "Canary" && manifest["metadata"]["name"] == "shop" {
        manifest["spec"]["analysis"]["interval"] = json!(format!("{}s", interval.as_secs()));
        if let Some(seconds) = manifest["spec"]["progressDeadlineSeconds"].as_u64() {
            // Pods that are replaced at once wait for those before them.
            manifest["spec"]["progressDeadlineSeconds"] = json!(seconds + lag);
        }
    }
    if manifest["kind"] == "Deployment" || manifest["kind"] == "DaemonSet" {
        let pod = &mut manifest["spec"]["template"]["spec"];
        pod["terminationGracePeriodSeconds"] = json!(lag + 30);
        pod["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": lag + 2}}});
    }
}

fn merge(into: &mut Value, change: &Value) {
    match (into.as_object_mut(), change) {
        (Some(fields), Value::Object(change)) => {
            for (key, value) in change {
                merge(fields.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        _ => *into = change.clone(),
    }
}

/// Each strategy, all well.
fn strategies() -> Vec<Flow> {
    let insiders = json!([{"headers": {"x-canary": {"exact": "insider"}}}]);
    let mut skipped = Flow::plain("skip-analysis").spec(&json!({"skipAnalysis": true}));
    skipped.skips = true;
    vec![
        Flow::plain("canary"),
        Flow::new("step-weights", &json!({"stepWeights": [10, 40]}), &[10, 40]),
        Flow::steps("return-in-steps", &json!({"stepWeightPromotion": 25})),
        Flow::steps("affinity", &json!({"sessionAffinity": {"cookieName": "v"}})),
        Flow::steps("mirror", &json!({"mirror": true})),
        Flow::new(
            "blue-green",
            &json!({"iterations": 2, "mirror": true}),
            &[100],
        ),
        Flow::new("ab", &json!({"iterations": 2, "match": insiders}), &[100]),
        skipped,
    ]
}

/// Versions that must not be promoted.
fn failures() -> Vec<Flow> {
    let mut bad = Flow::plain("rollback")
        .acts(vec![push("shop:bad")])
        .ends(Phase::Failed);
    bad.bad = vec!["shop:bad"];
    // The start needs no metrics; the first step does.
    bad.most = 25;
    let mut outage = Flow::plain("no-metrics").ends(Phase::Failed);
    (outage.outage, outage.most, outage.bad) = (true, 25, vec!["shop:1.1"]);
    let mut fixed = bad.clone().runs(2).ends(Phase::Succeeded);
    fixed.name = "fixed-after-rollback";
    fixed.acts.push(at(Phase::Failed, Deed::Push("shop:1.2")));
    fixed.most = 100;
    let mut crash = Flow::plain("crash-loop")
        .acts(vec![push("shop:crash")])
        .spec(&json!({"progressDeadlineSeconds": 60}))
        .ends(Phase::Failed);
    (crash.bad, crash.most) = (vec!["shop:crash"], 0);
    // Users are all on the canary when the primary gets the revision, and all its pods go at once.
    let mut promotion = Flow::new(
        "failed-promotion",
        &json!({"iterations": 2, "mirror": true}),
        &[100],
    )
    .spec(&json!({"progressDeadlineSeconds": 60}))
    .ends(Phase::Failed);
    promotion.manifests[0]["spec"]["strategy"] = json!({"type": "Recreate"});
    promotion
        .acts
        .push(on(100, Deed::Behave("shop:1.1", crashing())));
    let mut forward = promotion.clone().runs(2).ends(Phase::Succeeded);
    forward.name = "forward-after-failed-promotion";
    // Pods that serve users stay until newer ones are ready.
    forward.manifests[0]["spec"]["strategy"] = json!({"type": "RollingUpdate"});
    forward.acts.push(at(Phase::Failed, Deed::Push("shop:1.2")));
    let mut skipped = crash.clone().spec(&json!({"skipAnalysis": true}));
    (skipped.name, skipped.skips) = ("skipped-and-broken", true);
    vec![bad, outage, fixed, crash, promotion, forward, skipped]
}

fn config(color: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "default"}, "data": {"color": color},
    })
}

/// Revisions that come and go.
fn revisions() -> Vec<Flow> {
    let mut newer = Flow::plain("newer").runs(2);
    newer.acts.push(on(25, Deed::Push("shop:1.2")));
    let mut late = Flow::plain("newer-at-the-promotion").runs(2);
    late.acts.push(at(Phase::Promoting, Deed::Push("shop:1.2")));
    let mut back = Flow::plain("reverted");
    back.acts.push(on(25, Deed::Push("shop:1.0")));
    let edit = |patch: Value| Deed::Edit("apps", "deployments", "shop", patch);
    let mut unrelated = Flow::plain("nothing-new")
        .ends(Phase::Initialized)
        .runs(0)
        .acts(vec![
            at(
                Phase::Initialized,
                edit(json!({"metadata": {"annotations": {"note": "1"}}})),
            ),
            after(5, edit(json!({"metadata": {"labels": {"note": "2"}}}))),
            after(5, edit(json!({"spec": {"revisionHistoryLimit": 3}}))),
        ]);
    unrelated.most = 0;
    let mut configured =
        Flow::plain("config").acts(vec![at(Phase::Initialized, Deed::Apply(config("red")))]);
    with_config(&mut configured.manifests[0]);
    configured.manifests.push(config("blue"));
    vec![newer, late, back, unrelated, configured]
}

/// A Deployment whose first container gets the ConfigMap `settings`.
fn with_config(deployment: &mut Value) {
    let settings = json!([{"configMapRef": {"name": "settings"}}]);
    deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"] = settings;
}

/// Webhooks that hold, fail or roll back a release.
fn gates() -> Vec<Flow> {
    let open = |rest| after(rest, Deed::Gate(Answer::Status(200)));
    let opened = |mut flow: Flow| {
        flow.acts.push(open(60));
        flow
    };
    let mut hook = Flow::gated("pre-rollout-refuses", "pre-rollout").ends(Phase::Failed);
    (hook.gate, hook.most) = (None, 0);
    let mut external = Flow::gated("check-refuses", "rollout").ends(Phase::Failed);
    (external.gate, external.most) = (None, 25);
    let mut back = Flow::gated("rollback-hook", "rollback").ends(Phase::Failed);
    back.gate = None;
    back.acts.push(on(25, Deed::Gate(Answer::Status(200))));
    let mut hanging = Flow::gated("check-hangs", "rollout").ends(Phase::Failed);
    (hanging.gate, hanging.most) = (None, 25);
    hanging
        .acts
        .insert(0, at(Phase::Initialized, Deed::Gate(Answer::Nothing)));
    vec![
        opened(Flow::gated("gate-of-the-rollout", "confirm-rollout")),
        opened(Flow::gated("gate-of-each-step", "confirm-traffic-increase")),
        opened(Flow::gated("gate-of-the-promotion", "confirm-promotion")),
        hook,
        external,
        hanging,
        back,
    ]
}

/// What people ask of a release.
fn requests() -> Vec<Flow> {
    let with = |name, more: Vec<Act>| {
        let mut flow = Flow::plain(name);
        flow.acts.extend(more);
        flow
    };
    let pause = vec![on(25, Deed::Ask("pause")), after(40, Deed::Ask("resume"))];
    let mut retried = with("retry", Vec::new()).acts(vec![
        push("shop:bad"),
        at(Phase::Failed, Deed::Behave("shop:bad", healthy())),
        after(30, Deed::Ask("retry")),
    ]);
    (retried.runs, retried.most) = (2, 100);
    vec![
        with("promote", vec![on(25, Deed::Ask("promote"))]),
        with("pause", pause),
        with("abort", vec![on(25, Deed::Ask("abort"))]).ends(Phase::Failed),
        retried,
    ]
}

/// What a good version does.
pub fn healthy() -> Behaviour {
    Behaviour {
        error_percent: 0.0,
        ..Behaviour::default()
    }
}

/// Canaries that are deleted.
fn deletions() -> Vec<Flow> {
    let deleted = |name, acts: Vec<Act>| {
        let mut flow = Flow::plain(name)
            .spec(&json!({"revertOnDeletion": true}))
            .acts(acts);
        (flow.end, flow.pods) = (None, 2);
        // Who gives the workload back gives users what it runs.
        flow.planned = false;
        with_service(&mut flow);
        flow
    };
    let delete = || Deed::Delete("flagger.app", "canaries", "shop");
    let mut lost = deleted(
        "delete-without-target",
        vec![
            at(
                Phase::Initialized,
                Deed::Delete("apps", "deployments", "shop"),
            ),
            after(10, delete()),
        ],
    );
    (lost.users, lost.pods) = (Users::Nobody, 0);
    vec![
        deleted("delete-at-rest", vec![at(Phase::Initialized, delete())]),
        deleted(
            "delete-within-a-release",
            vec![push("shop:1.1"), on(25, delete())],
        ),
        lost,
    ]
}

/// Users are there before the Canary is, at a service of their own.
pub fn with_service(flow: &mut Flow) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "shop", "namespace": "default", "annotations": {"team/owner": "shop"}},
        "spec": {"selector": {"app": "shop"},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]},
    });
    let canary = flow.manifests.remove(1);
    flow.manifests.push(service);
    flow.acts.insert(0, after(20, Deed::Apply(canary)));
    flow.users = Users::BeforeCanary;
}

/// Autoscalers, edits, rivals and neighbours.
fn around() -> Vec<Flow> {
    let mut bootstrap = Flow::plain("bootstrap-under-traffic");
    with_service(&mut bootstrap);
    let scaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"},
            "minReplicas": 2, "maxReplicas": 4,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 80}}}],
        },
    });
    let mut grown = Flow::plain("autoscaled").spec(&json!({"autoscalerRef": {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": "shop"}}));
    grown.manifests.push(scaler);
    let size = json!({"spec": {"replicas": 3}});
    grown.acts.push(on(
        25,
        Deed::Edit("apps", "deployments", "shop-primary", size),
    ));
    let invalid = json!({"spec": {"service": {"match": [{"uri": {"regex": "("}}]}}});
    let valid = json!({"spec": {"service": {"match": null}}});
    let mut corrected = Flow::plain("invalid-and-corrected");
    corrected.acts.extend([
        on(25, edit_canary(invalid.clone())),
        after(30, edit_canary(valid)),
    ]);
    let mut forgotten = Flow::plain("invalid-and-forgotten")
        .spec(&json!({"progressDeadlineSeconds": 60}))
        .ends(Phase::Failed);
    forgotten.acts.push(on(25, edit_canary(invalid)));
    // Nothing is scaled by a spec that is not valid.
    (forgotten.most, forgotten.pods) = (25, 2);
    let mut moved = Flow::plain("another-route-api").ends(Phase::Failed);
    moved.acts.extend([
        on(25, edit_canary(json!({"spec": {"provider": "kubernetes"}}))),
        after(30, Deed::Ask("abort")),
    ]);
    moved.most = 25;
    let route = Deed::Delete("networking.istio.io", "virtualservices", "shop");
    // Checks find no values until the operator hears of it.
    let mut lost = Flow::steps("route-that-is-deleted", &json!({"threshold": 20}));
    lost.acts.push(on(25, route));
    let mut late = Flow::plain("target-comes-late");
    let target = late.manifests.remove(0);
    late.acts.insert(0, after(30, Deed::Apply(target)));
    let mut rivals = Flow::plain("two-canaries-of-one-target");
    let mut second = rivals.manifests[1].clone();
    second["metadata"]["name"] = json!("shop-rival");
    rivals
        .acts
        .insert(0, at(Phase::Initialized, Deed::Apply(second)));
    vec![
        bootstrap,
        grown,
        corrected,
        forgotten,
        moved,
        lost,
        late,
        rivals,
        neighbours("hanging-neighbour", Answer::Nothing),
        neighbours("quiet-neighbour", Answer::Status(403)),
        shared_config(),
    ]
}

/// Another Canary whose gate answers like this, and is asked again and again.
fn neighbours(name: &'static str, answer: Answer) -> Flow {
    let mut flow = Flow::plain(name);
    let mut store = manifests::application("store");
    store[1]["spec"]["analysis"]["interval"] = json!("10m");
    store[1]["spec"]["analysis"]["webhooks"] =
        json!([{"name": "gate", "type": "confirm-rollout", "url": GATE, "timeout": "1h"}]);
    flow.manifests.extend(store);
    let container = json!({"name": "app", "image": "store:1.1",
        "ports": [{"name": "http", "containerPort": 8080}]});
    let patch = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    flow.acts = vec![
        at(Phase::Initialized, Deed::Gate(answer)),
        after(10, Deed::Edit("apps", "deployments", "store", patch)),
        Act {
            rest: 5,
            ..push("shop:1.1")
        },
    ];
    flow
}

/// A ConfigMap that a neighbour uses too, whose own release waits at a gate.
pub fn shared_config() -> Flow {
    let mut flow = neighbours("shared-config", Answer::Status(403));
    flow.acts.truncate(1);
    for manifest in &mut flow.manifests {
        if manifest["kind"] == "Deployment" {
            with_config(manifest);
        }
    }
    flow.manifests.push(config("blue"));
    flow.acts.push(after(20, Deed::Apply(config("red"))));
    flow
}

impl Deed {
    /// The patch of a request.
    pub fn request(text: &str) -> Value {
        json!({"metadata": {"annotations": {REQUEST: text}}})
    }
}
