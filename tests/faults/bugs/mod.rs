//! Bugs of an operator, planted around the decision: the invariants must notice each. Each is named
//! after what went wrong, and where it is known to have: F is Flagger, A is Argo Rollouts.

mod lasting;
mod revisions;
mod tools;
mod traffic;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use haldane::{controller::Decider, observe::Snapshot, plan::Plan};

use crate::{flow::Flow, schedule::on_all_cores, trial::try_out};

/// A planted bug.
pub struct Bug {
    /// What goes wrong.
    pub name: &'static str,
    /// The flow in which it shows, and by how many seconds proxies are late in it.
    pub flow: (&'static str, u64),
    /// The invariants of which one notices it.
    pub noticed_by: &'static [&'static str],
    /// The decision with the bug.
    pub plant: fn(&Snapshot) -> Plan,
}

#[test]
fn planted_bug_is_noticed() {
    let bugs: Vec<&Bug> = [traffic::BUGS, revisions::BUGS, lasting::BUGS]
        .into_iter()
        .flatten()
        .collect();
    let names: BTreeSet<&str> = bugs.iter().map(|bug| bug.name).collect();
    assert_eq!(names.len(), bugs.len(), "each has a name of its own");
    let caught: Mutex<BTreeMap<&str, usize>> = Mutex::default();
    let missed = Mutex::new(Vec::new());
    on_all_cores(&bugs, |bug| {
        let (flow, lag) = bug.flow;
        let trial = try_out(
            &Flow::named(flow).lagging(lag),
            &[],
            1,
            &Decider::new(bug.plant),
        );
        match trial.violation {
            Some(found) if bug.noticed_by.contains(&found.invariant) => {
                println!("{}: {} ({})", found.invariant, bug.name, found.what);
                *caught.lock().unwrap().entry(found.invariant).or_default() += 1;
            }
            found => missed
                .lock()
                .unwrap()
                .push(format!("{}: {found:?}", bug.name)),
        }
    });
    let missed = missed.into_inner().unwrap();
    println!(
        "{} of {} bugs noticed",
        bugs.len() - missed.len(),
        bugs.len()
    );
    println!("by invariant: {:?}", caught.into_inner().unwrap());
    assert!(
        missed.is_empty(),
        "not noticed, or not as they should:\n{}",
        missed.join("\n")
    );
}
