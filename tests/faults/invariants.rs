//! What must hold after every write to the API server: traffic (T), revisions (R), ownership (O),
//! gates (G), and at the end liveness (L).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use haldane::sim::{
    World,
    server::{Change, Object},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    checker::{Checker, State},
    flow::Flow,
};

/// All of them, with what each says.
pub const INVARIANTS: &[(&str, &str)] = &[
    ("T1", "weights are 0 to 100 and sum to 100"),
    ("T2", "no backend gets traffic without ready pods"),
    (
        "T3",
        "no request is dropped, from before the Canary until after it",
    ),
    (
        "T4",
        "capacity stays until traffic has left and proxies have followed",
    ),
    (
        "T5",
        "each step is persisted, earned, and no larger than planned",
    ),
    (
        "T6",
        "nobody is scaled up too small, and the primary's size is left alone",
    ),
    (
        "R1",
        "the primary carries what stood at first, or what passed",
    ),
    ("R2", "what counts as promoted is what was analysed"),
    ("R3", "a failed revision is not retried unasked"),
    ("R4", "no release begins that nobody pushed"),
    (
        "R5",
        "no metric, no step; and never more traffic than was earned",
    ),
    ("G1", "a closed gate holds"),
    ("G2", "a paused release stays where it is"),
    (
        "O1",
        "what others wrote stays, and what is not the operator's is left alone",
    ),
    ("O2", "a deposed leader writes nothing"),
    (
        "O3",
        "of two Canaries with one target, the second does nothing and says so",
    ),
    (
        "O4",
        "a promotion never changes what a neighbour's primary mounts",
    ),
    (
        "O5",
        "what others change back is corrected once, and not fought over",
    ),
    ("L1", "once faults stop, the release ends as it has to"),
    ("L2", "the end is the same as without faults"),
    ("L3", "the first write of a rollback is the route"),
    ("L4", "at the end the canary gets nothing and runs nothing"),
    (
        "L5",
        "a deleted Canary leaves nothing behind, and gives back what it took",
    ),
    ("L6", "an idle Canary is not written"),
    ("L7", "a neighbour whose webhooks hang delays nobody"),
    ("B2", "the server is never asked without a pause"),
    ("B1", "nothing panics, and a panic stops no other Canary"),
];

/// Longest time that a write of the operator takes.
const WRITE: Duration = Duration::from_secs(4);

impl Checker {
    /// What must hold from one state to the next.
    pub fn judge(&mut self, world: &World, flow: &Flow, old: &State, new: &State) {
        if old.plain != new.plain || old.routed != new.routed || old.matched != new.matched {
            self.weights(world);
        }
        self.capacity(world, flow, old, new);
        if !self.leaving {
            self.gates(world, old, new);
            self.steps(world, flow, old, new);
            self.revision(world, flow, old, new);
        }
    }

    /// T1: weights are 0 to 100 and sum to 100.
    fn weights(&mut self, world: &World) {
        let istio = self.value("virtualservices", "shop")["spec"]["http"].clone();
        let gateway = self.value("httproutes", "shop")["spec"]["rules"].clone();
        let backends = [(istio, "route"), (gateway, "backendRefs")];
        let rules = backends.iter().flat_map(|(rules, field)| {
            let rules = rules.as_array().into_iter().flatten();
            rules.map(move |rule| rule[*field].as_array())
        });
        for to in rules {
            let to = to.into_iter().flatten();
            let weights: Vec<i64> = to.map(|t| t["weight"].as_i64().unwrap_or(-1)).collect();
            let fits = weights.iter().all(|w| (0..=100).contains(w));
            let sum: i64 = weights.iter().sum();
            self.ensure(world, "T1", fits && sum == 100, || {
                format!("weights {weights:?}")
            });
        }
    }

    /// T2, T4: capacity before traffic, and after it.
    fn capacity(&mut self, world: &World, flow: &Flow, old: &State, new: &State) {
        let more = new.plain > old.plain || new.matched > old.matched;
        let pods = new.canary_ready > 0 || new.any_ready > 0;
        self.ensure(world, "T2", !more || pods, || {
            "traffic to a canary without pods".to_owned()
        });
        let back = new.plain < old.plain
            || (old.to_target && !new.to_target)
            || (!old.routed && new.routed);
        let serves = new.primary_ready > 0 || new.any_ready == 0;
        self.ensure(world, "T2", !back || serves || self.leaving, || {
            "traffic to a primary without pods".to_owned()
        });
        if old.exposed() || new.exposed() {
            self.exposed = Some(world.elapsed());
        }
        if old.replicas > 0 && new.replicas == 0 && !new.target.is_empty() {
            let since = world
                .elapsed()
                .saturating_sub(self.exposed.unwrap_or_default());
            self.ensure(world, "T4", !new.exposed(), || {
                "scaled to zero while routed".to_owned()
            });
            let rested = since + Duration::from_secs(1) >= flow.drain;
            self.ensure(world, "T4", rested, || {
                format!("scaled to zero {since:?} after its traffic left")
            });
            self.ensure(world, "T4", new.primary_ready > 0, || {
                "scaled to zero while the primary serves nobody".to_owned()
            });
        }
    }

    /// G1, G2: what people hold is held.
    fn gates(&mut self, world: &World, old: &State, new: &State) {
        // A route that follows late comes to what the status said before.
        let raises = new.weight() > old.weight() || new.share() > old.share().max(new.weight());
        let promotes = new.turned(old, "Promoting");
        let begins = new.began_after(old);
        let broken = match self.closed {
            Some("confirm-rollout") => begins,
            Some("confirm-traffic-increase") => raises,
            Some("confirm-promotion") => promotes,
            _ => false,
        };
        let gate = self.closed.unwrap_or_default();
        self.ensure(world, "G1", !broken, || {
            format!("goes on although {gate} is closed")
        });
        let annotations = &self.value("canaries", "shop")["metadata"]["annotations"];
        let obeyed = annotations[haldane::api::REQUEST].is_null();
        let paused = self.asked == Some("pause") && obeyed;
        self.ensure(world, "G2", !(paused && (raises || promotes)), || {
            "goes on although it is paused".to_owned()
        });
        let aborted = self.asked == Some("abort") && obeyed;
        self.ensure(world, "G2", !(aborted && (raises || promotes)), || {
            "goes on although it was aborted".to_owned()
        });
    }

    /// R3, R4: releases begin when somebody pushed, and once.
    pub fn runs(&mut self, world: &World, flow: &Flow, old: &State, new: &State) {
        if new.began_after(old) {
            let release = ["runTime", "lastAppliedSpec"].map(|field| new.text(field));
            self.runs.insert(release.join(" "));
            (self.peak, self.raised) = (0, None);
            self.analysed.clear();
            let runs = self.runs.len();
            self.ensure(world, "R4", runs <= flow.runs, || {
                format!("{runs} releases began")
            });
        }
        let same = ["lastAppliedSpec", "trackedConfigs"]
            .iter()
            .all(|f| old.status[*f] == new.status[*f]);
        let retried = old.phase() == "Failed" && new.phase() == "Progressing" && same;
        self.ensure(world, "R3", !retried || self.asked == Some("retry"), || {
            "a failed revision is retried".to_owned()
        });
    }

    /// T5, R5: each step is persisted, earned and no larger than planned. A revision that passed
    /// may get all users, as when its promotion fails.
    fn steps(&mut self, world: &World, flow: &Flow, old: &State, new: &State) {
        let share = new.share();
        let free = self.proven.contains(&new.target_version) || !flow.planned;
        // The route may give by chance what the first steps of a revision ask for: the one before
        // had got there, and nobody could take it back.
        let there = new.weight() > old.weight() && share >= new.weight() && share == old.share();
        let next = |peak| flow.steps.iter().copied().find(|step| *step > peak);
        if there && next(self.peak) == Some(new.weight()) {
            self.peak = new.weight();
        }
        if share > old.share() {
            let said = new.weight();
            self.ensure(world, "T5", free || said >= new.plain, || {
                format!("the route gives {}, the status {said}", new.plain)
            });
            let running = ["Progressing", "WaitingPromotion", "Promoting"].contains(&new.phase());
            self.ensure(world, "T5", free || running, || {
                format!("traffic to a canary that is {}", new.phase())
            });
            let peak = self.peak;
            let next = next(peak).unwrap_or(peak);
            self.ensure(world, "T5", free || share <= next, || {
                format!("{share} % after {peak} %")
            });
            let queries = world.surroundings().queries();
            if let Some((when, asked)) = self.raised
                && share > peak
            {
                let now = self.stepped.unwrap_or_else(|| world.elapsed());
                let rest = now.saturating_sub(when);
                let rested = rest + Duration::from_secs(2) >= flow.interval;
                self.ensure(world, "T5", free || rested, || {
                    format!("the next step after {rest:?}")
                });
                self.ensure(world, "R5", free || queries > asked, || {
                    "a step that no metric allowed".to_owned()
                });
            }
            self.takes_step(world, new);
        }
        let progressing = old.phase() == "Progressing" && new.phase() == "Progressing";
        let fell = old.text("runTime") == new.text("runTime")
            && !new.began_after(old)
            && (new.weight() < old.weight()
                || (new.routed && new.plain < old.plain && new.plain < new.weight()));
        self.ensure(world, "T5", free || !progressing || !fell, || {
            "the weight fell within a run".to_owned()
        });
        let most = flow.most;
        self.ensure(world, "R5", free || share <= most, || {
            format!("{share} %, more than {most} % was earned")
        });
    }

    /// A step is decided on, be it by a write that comes late: its interval counts from then.
    pub fn decides(&mut self, world: &World, old: &State, new: &State) {
        if old.status["step"] != new.status["step"] {
            // Its status took a moment to persist.
            let decided = new.text("lastTransitionTime").parse().ok();
            let age = decided.map_or(Duration::ZERO, |decided: Timestamp| {
                world.clock().now().duration_since(decided).unsigned_abs()
            });
            self.stepped = Some(world.elapsed().saturating_sub(age.min(WRITE)));
        }
    }

    /// The version that a promotion brings, which passed.
    pub fn promotes(&mut self, new: &State) -> String {
        let revision = self.revisions.get(new.text("lastAppliedSpec"));
        let image = revision.cloned().unwrap_or_default();
        // The target may have been replaced since; then users had what is promoted before.
        let version = if new.target == image {
            new.target_version.clone()
        } else {
            image
        };
        self.proven.insert(version.clone());
        version
    }

    /// The canary got more users: the next step is counted from here.
    pub fn takes_step(&mut self, world: &World, new: &State) {
        self.peak = self.peak.max(new.share());
        self.analysed.insert(new.target_version.clone());
        // The route follows the status, which says when the next step is due.
        let when = self.stepped.unwrap_or_else(|| world.elapsed());
        self.raised = Some((when, world.surroundings().queries()));
    }

    /// R1, R2: the primary carries what stood at first, or what passed.
    fn revision(&mut self, world: &World, flow: &Flow, old: &State, new: &State) {
        if new.turned(old, "Promoting") {
            let top = flow.steps.last().copied().unwrap_or_default();
            let rested = self.raised.is_some_and(|(when, _)| {
                world.elapsed().saturating_sub(when) + Duration::from_secs(2) >= flow.interval
            });
            let waved = flow.skips || !flow.planned || self.asked == Some("promote");
            let earned = waved || self.peak >= top && rested;
            let peak = self.peak;
            self.ensure(world, "R1", earned, || {
                format!("promotes after {peak} % of {top} %")
            });
            self.ensure(world, "R1", new.canary_ready > 0, || {
                "promotes a revision without a ready pod".to_owned()
            });
            let version = self.promotes(new);
            let same = self.analysed.iter().all(|analysed| *analysed == version);
            let analysed = self.analysed.clone();
            self.ensure(world, "R1", same, || {
                format!("promotes {version}, and users had {analysed:?}")
            });
        }
        if ["", "Initializing"].contains(&new.phase()) && !new.target_version.is_empty() {
            // What stands at first is what users have.
            self.proven.insert(new.target_version.clone());
        }
        if new.primary_version != old.primary_version && !new.primary.is_empty() {
            let version = &new.primary_version;
            let bad = flow.bad.iter().any(|bad| version.starts_with(bad));
            let proven = self.proven.contains(version) && !bad;
            self.ensure(world, "R1", proven, || {
                format!("the primary gets {version}")
            });
        }
        let promoted = new.text("lastPromotedSpec");
        let carried = self
            .revisions
            .get(promoted)
            .is_none_or(|image| self.proven.iter().any(|proven| proven.starts_with(image)));
        self.ensure(world, "R2", promoted.is_empty() || carried, || {
            format!("{promoted} counts as promoted")
        });
        if new.turned(old, "Succeeded") {
            let promoted = self.revisions.get(promoted).cloned();
            let agrees = promoted.as_ref().is_none_or(|image| *image == new.primary);
            self.ensure(world, "R2", agrees, || {
                format!(
                    "{promoted:?} counts as promoted, the primary has {}",
                    new.primary
                )
            });
        }
    }

    /// T6: sizes that the operator writes.
    pub fn sizes(&mut self, world: &World, change: &Arc<Change>) {
        let Some(before) = &change.previous else {
            return;
        };
        let size = |object: &Object| object.value()["spec"]["replicas"].as_i64().unwrap_or(1);
        let (old, new) = (size(before), size(&change.object));
        let name = change.object.name();
        let kept = !name.ends_with("-primary") || old == new;
        self.ensure(world, "T6", kept, || {
            format!("{name} is scaled from {old} to {new}")
        });
        let enough = old == new || new == 0 || new >= 2;
        self.ensure(world, "T6", enough, || {
            format!("{name} is scaled up to {new} pods only")
        });
    }

    /// O1: what others wrote stays, and what is not the operator's is left alone.
    pub fn ownership(&mut self, world: &World, change: &Arc<Change>) {
        let plural = change.resource.plural.as_str();
        if matches!(plural, "events" | "leases") {
            return;
        }
        let name = change.object.name();
        let copy = plural == "configmaps" && name.starts_with("settings-");
        let own = |base: &str| name == base || name.starts_with(&format!("{base}-"));
        self.ensure(world, "O1", own("shop") || own("store") || copy, || {
            format!("writes {plural} {name}")
        });
        let owners = change.object.value()["metadata"]["ownerReferences"].as_array();
        let rival = owners
            .into_iter()
            .flatten()
            .any(|owner| owner["name"] == "shop-rival");
        let elder = self.value("canaries", "shop").is_object();
        self.ensure(world, "O3", !(rival && elder), || {
            format!("a rival owns {plural} {name}")
        });
        let Some(before) = &change.previous else {
            return;
        };
        let notes =
            |object: &Object| object.value()["metadata"]["annotations"]["team/owner"].clone();
        self.ensure(world, "O1", notes(before) == notes(&change.object), || {
            format!("an annotation of others on {name} is lost")
        });
        if plural == "canaries" {
            let same = before.value()["spec"] == change.object.value()["spec"];
            self.ensure(world, "O1", same, || {
                "the Canary's spec was changed".to_owned()
            });
        }
        if matches!(plural, "deployments" | "daemonsets") && matches!(name, "shop" | "store") {
            let template = |object: &Object| {
                let mut template = object.value()["spec"]["template"].clone();
                if plural == "daemonsets" {
                    // A DaemonSet has no other size.
                    template["spec"]["nodeSelector"] = Value::Null;
                }
                template
            };
            let same = template(before) == template(&change.object);
            self.ensure(world, "O1", same, || {
                "the target's template was changed".to_owned()
            });
        }
    }

    /// O3, O4: Canaries leave each other's things alone.
    pub fn neighbours(&mut self, world: &World, plural: &str, name: &str) {
        let elder = self.value("canaries", "shop").is_object();
        if plural == "canaries" && name == "shop-rival" && elder {
            let status = self.value("canaries", name)["status"].clone();
            let idle = status["runTime"].is_null()
                && status["phase"].as_str().unwrap_or_default().is_empty();
            self.ensure(world, "O3", idle, || format!("a rival works: {status}"));
        }
        if !matches!(plural, "configmaps" | "deployments") {
            return;
        }
        let primary = self.value("deployments", "store-primary");
        let Some(from) = primary["spec"]["template"]["spec"]["containers"][0]["envFrom"].as_array()
        else {
            return;
        };
        let names = from
            .iter()
            .filter_map(|f| f["configMapRef"]["name"].as_str());
        let data: Value = names
            .map(|name| self.value("configmaps", name)["data"].clone())
            .collect();
        let before = self.mounted.get_or_insert_with(|| data.clone()).clone();
        self.ensure(world, "O4", before == data, || {
            format!("a neighbour's primary mounts {data}, not {before}")
        });
    }

    /// What must hold once all is done.
    pub fn rest(&mut self, world: &World, flow: &Flow) {
        if flow.end.is_none() {
            return self.gone(world, flow);
        }
        let State {
            plain,
            matched,
            replicas,
            to_target,
            ..
        } = self.before;
        let rests = !self.before.exposed() && !to_target && replicas == flow.pods;
        self.ensure(world, "L4", rests, || {
            format!(
                "at the end the canary gets {plain} %, of its users {matched} %, on {replicas} pods"
            )
        });
        let (reverted, corrected) = (self.reverted, self.corrected);
        self.ensure(world, "O5", corrected <= reverted + 1, || {
            format!("the apex service is written {corrected} times, {reverted} times by others")
        });
        let rival = self.value("canaries", "shop-rival").clone();
        if rival.is_object() {
            let conditions = rival["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten();
            let reasons: BTreeSet<&str> = conditions
                .filter_map(|condition| condition["reason"].as_str())
                .collect();
            let told = reasons.contains("Conflict");
            self.ensure(world, "O3", told, || format!("a rival is told {reasons:?}"));
        }
    }

    /// L5: nothing is left behind, and what was taken is given back.
    fn gone(&mut self, world: &World, flow: &Flow) {
        let server = world.server();
        for (group, plural) in [
            ("apps", "deployments"),
            ("apps", "daemonsets"),
            ("", "services"),
            ("", "configmaps"),
            ("gateway.networking.k8s.io", "httproutes"),
            ("networking.istio.io", "virtualservices"),
            ("networking.istio.io", "destinationrules"),
            ("autoscaling", "horizontalpodautoscalers"),
        ] {
            for object in server.list(group, plural, "default") {
                let owners = object.value()["metadata"]["ownerReferences"].as_array();
                let owned = owners
                    .into_iter()
                    .flatten()
                    .any(|owner| owner["kind"] == "Canary" && owner["name"] == "shop");
                self.ensure(world, "L5", !owned, || {
                    format!("{plural} {} is left behind", object.name())
                });
            }
        }
        let replicas = self.before.replicas;
        self.ensure(world, "L5", replicas == flow.pods, || {
            format!("{replicas} pods are left")
        });
        let service = self.value("services", "shop").clone();
        if flow.inherited {
            let taken = service["spec"]["selector"] == json!({"app": "shop-primary"});
            return self.ensure(world, "L5", taken, || {
                format!("the heir leaves the service as {}", service["spec"])
            });
        }
        let back = flow.pods == 0 || service["spec"]["selector"] == json!({"app": "shop"});
        self.ensure(world, "L5", back, || {
            format!("the service is left as {}", service["spec"])
        });
    }
}
