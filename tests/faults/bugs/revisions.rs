//! Bugs that promote what was not proven, or forget what was pushed.

use haldane::{
    api::{Phase, REQUEST},
    decide::decide,
    object::Kind,
    plan::{Outcome, Plan},
};

use super::{
    Bug,
    tools::{
        answers, comes_to, hooks_agree, no_kind, phase, revision, status, with_memory, with_status,
        without_hooks,
    },
};

pub const BUGS: &[Bug] = &[
    Bug {
        name: "promotes at once (F2)",
        flow: ("rollback", 1),
        noticed_by: &["R1"],
        plant: |s| {
            let mut plan = decide(s);
            if let Some(status) = &mut plan.status
                && status.phase == Phase::Progressing
                && status.canary_weight > 0
            {
                status.phase = Phase::Promoting;
            }
            plan
        },
    },
    Bug {
        name: "bad metrics pass (A#3850)",
        flow: ("rollback", 1),
        noticed_by: &["R5"],
        plant: |s| answers(s, |_| Outcome::Value(99.5)),
    },
    Bug {
        name: "no metrics pass (F#1581)",
        flow: ("no-metrics", 1),
        noticed_by: &["R5"],
        plant: |s| answers(s, |_| Outcome::Value(99.5)),
    },
    Bug {
        name: "checks of one's own are not asked (A#521, A#3562)",
        flow: ("check-refuses", 1),
        noticed_by: &["R5"],
        plant: |s| decide(&without_hooks(s)),
    },
    Bug {
        name: "a check before the release that fails passes (A#943)",
        flow: ("pre-rollout-refuses", 1),
        noticed_by: &["R5"],
        plant: hooks_agree,
    },
    Bug {
        name: "a gate of the rollout is passed while closed (F#1149)",
        flow: ("gate-of-the-rollout", 1),
        noticed_by: &["G1"],
        plant: hooks_agree,
    },
    Bug {
        name: "a gate of a step is passed while closed",
        flow: ("gate-of-each-step", 1),
        noticed_by: &["G1"],
        plant: hooks_agree,
    },
    Bug {
        name: "a gate of the promotion is passed while closed (A#1329)",
        flow: ("gate-of-the-promotion", 1),
        noticed_by: &["G1"],
        plant: hooks_agree,
    },
    Bug {
        name: "a pause is forgotten",
        flow: ("pause", 1),
        noticed_by: &["G2"],
        plant: |s| {
            let plan = with_memory(s, |status| status.paused = None);
            with_status(s, plan, |status| status.paused = None)
        },
    },
    Bug {
        name: "skipped analysis promotes what never got ready (F#362)",
        flow: ("skipped-and-broken", 1),
        noticed_by: &["R1"],
        plant: |s| {
            let mut plan = decide(s);
            if phase(s) == Phase::Progressing && plan.status.is_none() {
                plan = with_status(s, plan, |status| status.phase = Phase::Promoting);
            }
            plan
        },
    },
    Bug {
        name: "a new revision is promoted on the proof of the one before (F#30)",
        flow: ("newer", 1),
        noticed_by: &["R1"],
        plant: |s| {
            let target = revision(s);
            if phase(s) != Phase::Progressing {
                return decide(s);
            }
            let plan = with_memory(s, |status| status.last_applied_spec = Some(target.clone()));
            with_status(s, plan, |status| {
                status.last_applied_spec = Some(target.clone());
            })
        },
    },
    Bug {
        name: "what is promoted is read anew from the target (F4)",
        flow: ("newer-at-the-promotion", 1),
        noticed_by: &["R1"],
        plant: |s| {
            let target = revision(s);
            if phase(s) != Phase::Promoting {
                return decide(s);
            }
            let plan = with_memory(s, |status| status.last_applied_spec = Some(target.clone()));
            with_status(s, plan, |status| {
                status.last_applied_spec = Some(target.clone());
            })
        },
    },
    Bug {
        name: "a revision that was taken back is released nevertheless (F: revert within a run)",
        flow: ("reverted", 1),
        noticed_by: &["R1"],
        plant: |s| {
            let mut plan = decide(s);
            if phase(s) == Phase::Progressing && comes_to(s, &plan) == Phase::Succeeded {
                let target = revision(s);
                plan = with_memory(s, |status| status.last_applied_spec = Some(target.clone()));
                plan = with_status(s, plan, |status| {
                    status.phase = Phase::Promoting;
                    status.last_applied_spec = Some(target.clone());
                });
            }
            plan
        },
    },
    Bug {
        name: "a revision that failed counts as promoted (A#3562)",
        flow: ("rollback", 1),
        noticed_by: &["R2"],
        plant: |s| {
            let mut plan = decide(s);
            if let Some(status) = &mut plan.status
                && status.phase == Phase::Failed
            {
                status
                    .last_promoted_spec
                    .clone_from(&status.last_applied_spec);
            }
            plan
        },
    },
    Bug {
        name: "the release ends well though the primary never got the revision (A#3333)",
        flow: ("canary", 1),
        noticed_by: &["R2"],
        plant: |s| {
            let mut plan = decide(s);
            if comes_to(s, &plan) == Phase::Promoting {
                plan = no_kind(plan, Kind::Deployment);
                if phase(s) == Phase::Promoting {
                    plan = with_status(s, plan, |status| {
                        (status.phase, status.canary_weight) = (Phase::Finalising, 0);
                    });
                }
            }
            plan
        },
    },
    Bug {
        name: "a failed revision is retried unasked",
        flow: ("rollback", 1),
        noticed_by: &["R3", "R4"],
        plant: |s| {
            let mut plan = decide(s);
            if phase(s) == Phase::Failed && plan.status.is_none() {
                let mut status = status(s);
                (status.phase, status.run_time) = (Phase::Progressing, Some(s.now));
                plan.status = Some(status);
            }
            plan
        },
    },
    Bug {
        name: "every look starts a release (F#1201, F#1673, F#1799)",
        flow: ("canary", 1),
        noticed_by: &["R4"],
        plant: |s| {
            let mut plan = decide(s);
            if let Some(status) = &mut plan.status
                && status.run_time.is_some()
            {
                status.run_time = Some(s.now);
            }
            plan
        },
    },
    Bug {
        name: "any change of the target starts a release (F#1163, F#780)",
        flow: ("nothing-new", 1),
        noticed_by: &["R4"],
        plant: |s| {
            let target = s.object(Kind::Deployment, "shop");
            let noted = target.is_some_and(|target| target.annotations.contains_key("note"));
            if noted && phase(s) == Phase::Initialized {
                return with_status(s, decide(s), |status| {
                    (status.phase, status.run_time) = (Phase::Progressing, Some(s.now));
                });
            }
            decide(s)
        },
    },
    Bug {
        name: "a config that could not be read starts a release (F#989)",
        flow: ("config", 1),
        noticed_by: &["R4", "L1"],
        plant: |s| {
            let read = s.configs.values().any(|config| config.checksum.is_some());
            if read && phase(s) == Phase::Initialized {
                return with_status(s, decide(s), |status| {
                    (status.phase, status.run_time) = (Phase::Progressing, Some(s.now));
                });
            }
            decide(s)
        },
    },
    Bug {
        name: "a change of a config is not seen (F#417)",
        flow: ("config", 1),
        noticed_by: &["L1"],
        plant: |s| {
            let mut s = s.clone();
            let tracked = status(&s).tracked_configs.unwrap_or_default();
            for (key, config) in &mut s.configs {
                let known = tracked.get(&format!("configmap/{}", key.name));
                config.checksum = known.cloned().or_else(|| config.checksum.clone());
            }
            decide(&s)
        },
    },
    Bug {
        name: "a new revision is lost (F6)",
        flow: ("newer", 1),
        noticed_by: &["L1", "R1"],
        plant: |s| {
            let plan = decide(s);
            let mut told = plan.notices.iter();
            let again = told.any(|notice| notice.message.contains("Restarting"));
            if again { Plan::default() } else { plan }
        },
    },
    Bug {
        name: "a fix after a failure is lost (F#237, F#1152)",
        flow: ("fixed-after-rollback", 1),
        noticed_by: &["L1"],
        plant: |s| {
            if phase(s) == Phase::Failed {
                let plan = Plan {
                    status: None,
                    ..decide(s)
                };
                return no_kind(plan, Kind::Canary);
            }
            decide(s)
        },
    },
    Bug {
        name: "a request to abort is not heard (A#4841, A#4694)",
        flow: ("abort", 1),
        noticed_by: &["L1"],
        plant: |s| {
            let mut s = s.clone();
            let mut canary = (*s.canary).clone();
            if let Some(annotations) = &mut canary.metadata.annotations {
                annotations.remove(REQUEST);
            }
            s.canary = std::sync::Arc::new(canary);
            decide(&s)
        },
    },
];
