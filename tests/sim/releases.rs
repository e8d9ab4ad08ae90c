use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use haldane::{
    api::Phase,
    measure::{InstantQuery, Outside, Post, PostError, QueryError, Reply, Sample, SecretError},
    sim::{Options, World},
};
use serde_json::{Value, json};

struct Good;

impl Outside for Good {
    fn instant_query<'a>(
        &'a self,
        question: InstantQuery<'a>,
    ) -> BoxFuture<'a, Result<Vec<Sample>, QueryError>> {
        Box::pin(async move {
            Ok(vec![Sample {
                labels: BTreeMap::new(),
                timestamp: question.at,
                value: 100.0,
            }])
        })
    }
    fn post<'a>(&'a self, _: &'a Post) -> BoxFuture<'a, Result<Reply, PostError>> {
        Box::pin(async {
            Ok(Reply {
                status: 200,
                body: Vec::new(),
            })
        })
    }
    fn secret<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, Vec<u8>>, SecretError>> {
        Box::pin(async { Err(SecretError::NotFound) })
    }
}

#[test]
fn release_with_good_metrics_is_promoted() {
    haldane::sim::run(|| async {
        let mut world = World::new(Options::default(), Arc::new(Good)).unwrap();
        let text = include_str!("../../examples/istio/canary.yaml");
        let manifests: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        for manifest in manifests {
            world.apply(manifest).unwrap();
        }
        let initialized = world
            .run_until(
                |w| w.phase("default", "podinfo") == Phase::Initialized,
                Duration::from_secs(300),
            )
            .await;
        println!(
            "{:?} {:#?}",
            world.elapsed(),
            world.events("default", "podinfo")
        );
        assert!(initialized, "{:#?}", world.canary("default", "podinfo"));
        world
            .patch(
                ("apps", "deployments"),
                ("default", "podinfo"),
                json!({"spec": {"template": {"spec": {"containers": [
            {"name": "podinfo", "image": "ghcr.io/stefanprodan/podinfo:6.1.0"}]}}}}),
            )
            .unwrap();
        let done = world
            .run_until(
                |w| w.phase("default", "podinfo") == Phase::Succeeded,
                Duration::from_secs(3600),
            )
            .await;
        println!(
            "{:?} {:#?}",
            world.elapsed(),
            world.events("default", "podinfo")
        );
        println!("writes {}", world.gate().writes().len());
        assert!(done, "{:#?}", world.canary("default", "podinfo"));
    })
    .unwrap();
}
