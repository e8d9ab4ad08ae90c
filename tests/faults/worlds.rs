//! Flows on other workloads and routes, and beside Git operations that apply manifests again.

use haldane::api::Phase;
use serde_json::{Value, json};

use crate::flow::{Act, Deed, Flow, after, at, push, shared_config, with_service};

/// All of them.
pub fn flows() -> Vec<Flow> {
    let rolled_back = |mut flow: Flow, name| {
        flow.name = name;
        flow.acts = vec![push("shop:bad")];
        (flow.end, flow.bad, flow.most) = (Some(Phase::Failed), vec!["shop:bad"], 25);
        flow
    };
    let (daemons, gateway) = (daemon_set("daemon-set"), http_route("gateway"));
    vec![
        rolled_back(daemons.clone(), "daemon-set-rollback"),
        daemons,
        rolled_back(gateway.clone(), "gateway-rollback"),
        gateway,
        applied_again("applied-again", "shop:1.1", Phase::Succeeded),
        applied_again_and_rolled_back(),
        neighbour_that_goes(),
        heir(),
    ]
}

/// A release of a DaemonSet: one pod on each node.
fn daemon_set(name: &'static str) -> Flow {
    let mut flow = Flow::plain(name)
        .spec(&json!({"targetRef": {"apiVersion": "apps/v1", "kind": "DaemonSet"}}));
    let target = &mut flow.manifests[0];
    target["kind"] = json!("DaemonSet");
    if let Some(spec) = target["spec"].as_object_mut() {
        spec.remove("replicas");
    }
    flow
}

/// A release behind a Gateway.
fn http_route(name: &'static str) -> Flow {
    Flow::plain(name).spec(&json!({
        "provider": "gatewayapi:v1",
        "service": {"gatewayRefs": [{"name": "public", "namespace": "gateways"}]},
    }))
}

/// Git holds the workload with its size, the service with its selector, and the Canary; all of it is
/// applied again and again.
fn applied_again(name: &'static str, image: &'static str, end: Phase) -> Flow {
    let mut flow = Flow::plain(name).ends(end);
    let canary = flow.manifests[1].clone();
    with_service(&mut flow);
    let mut held = flow.manifests.clone();
    held.push(canary);
    let again = |rest: u64, held: &[Value]| after(rest, Deed::Reapply(held.to_vec()));
    flow.acts.truncate(1);
    flow.acts
        .push(at(Phase::Initialized, Deed::Reapply(held.clone())));
    flow.acts.extend((0..2).map(|_| again(7, &held)));
    flow.acts.push(push(image));
    held[0]["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    flow.acts.extend((0..8).map(|_| again(7, &held)));
    flow.acts.push(at(end, Deed::Reapply(held.clone())));
    // Once it was scaled to zero it is not fought over any more.
    flow.acts.push(Act {
        settled: true,
        ..again(30, &held)
    });
    flow.pods = 2;
    flow
}

fn applied_again_and_rolled_back() -> Flow {
    let mut flow = applied_again("applied-again-rollback", "shop:bad", Phase::Failed);
    (flow.bad, flow.most) = (vec!["shop:bad"], 25);
    flow
}

/// Two Canaries share a ConfigMap, and one of them goes: the other keeps its copy.
fn neighbour_that_goes() -> Flow {
    let mut flow = shared_config().spec(&json!({"revertOnDeletion": true}));
    flow.name = "neighbour-that-goes";
    let delete = Deed::Delete("flagger.app", "canaries", "shop");
    flow.acts = vec![Act {
        rest: 10,
        ..at(Phase::Initialized, delete)
    }];
    (flow.end, flow.pods, flow.planned) = (None, 2, false);
    with_service(&mut flow);
    flow
}

/// Of two Canaries with one target the elder goes, and the other takes over.
fn heir() -> Flow {
    let mut flow = Flow::plain("heir").spec(&json!({"revertOnDeletion": true}));
    let mut second = flow.manifests[1].clone();
    second["metadata"]["name"] = json!("shop-rival");
    let delete = Deed::Delete("flagger.app", "canaries", "shop");
    flow.acts = vec![
        at(Phase::Initialized, Deed::Apply(second)),
        after(15, delete),
    ];
    (flow.end, flow.planned, flow.inherited) = (None, false, true);
    with_service(&mut flow);
    flow
}
