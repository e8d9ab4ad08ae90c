//! Ports of the generated services.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value, json};

use super::{POD_SPEC, elements};
use crate::{
    api::service::Service,
    object::{At, Object},
};

/// Containers of service meshes: their ports are not the workload's.
const SIDECARS: [&str; 2] = ["istio-proxy", "envoy"];

/// The ports that a Canary asks for, the main port first.
pub(super) fn wanted(service: &Service, target: &Value) -> Vec<Value> {
    let target_port = target_port(service);
    let mut main = json!({
        "name": service.port_name(),
        "protocol": "TCP",
        "port": service.port,
        "targetPort": target_port.clone(),
    });
    if let (Some(protocol), Value::Object(fields)) = (&service.app_protocol, &mut main) {
        fields.insert("appProtocol".to_owned(), json!(protocol));
    }
    let mut ports = vec![main];
    if service.port_discovery == Some(true) {
        for port in discovered(target, &target_port) {
            // The API refuses services with two ports of one name or number.
            if !ports.iter().any(|other| clashes(other, &port)) {
                ports.push(port);
            }
        }
    }
    ports
}

/// `targetPort`, or `port` when it is unset or 0.
fn target_port(service: &Service) -> Value {
    match &service.target_port {
        Some(IntOrString::Int(number)) if *number != 0 => json!(number),
        Some(IntOrString::String(name)) if !name.is_empty() && name != "0" => json!(name),
        Some(_) | None => json!(service.port),
    }
}

/// The ports of all containers but the main one.
fn discovered(target: &Value, main: &Value) -> Vec<Value> {
    let containers = target.at(POD_SPEC).and_then(|s| s.get("containers"));
    let mut ports = Vec::new();
    for container in elements(containers) {
        let name = container.get("name").and_then(Value::as_str).unwrap_or("");
        if SIDECARS.contains(&name) {
            continue;
        }
        for (index, port) in elements(container.get("ports")).enumerate() {
            let Some(number) = port.get("containerPort").and_then(Value::as_i64) else {
                continue;
            };
            let port_name = port.get("name").and_then(Value::as_str).unwrap_or("");
            if main.as_i64() == Some(number) || main.as_str() == Some(port_name) {
                continue;
            }
            ports.push(json!({
                "name": if port_name.is_empty() { format!("tcp-{name}-{index}") } else { port_name.to_owned() },
                "protocol": protocol(port),
                "port": number,
                "targetPort": number,
            }));
        }
    }
    ports
}

/// What an existing service's ports become.
///
/// Fields that a server fills in (node ports) and the order stay as they are, so that a service
/// which has all that is wanted is not written. A service that is not `ours` also keeps other
/// fields of a port, and its other named ports.
pub(super) fn reconciled(wanted: &[Value], existing: &Object, ours: bool) -> Vec<Value> {
    let body = existing.body.read();
    let found: Vec<&Value> = elements(body.at("/spec/ports")).collect();
    // Each port has one counterpart at most, by name before by number.
    let mut counterparts: Vec<Option<usize>> = vec![None; wanted.len()];
    let mut taken = BTreeSet::new();
    for is_same in [has_name_of, has_number_of] {
        for (port, counterpart) in wanted.iter().zip(&mut counterparts) {
            if counterpart.is_none() {
                *counterpart = (0..)
                    .zip(&found)
                    .find(|(index, other)| is_same(other, port) && !taken.contains(index))
                    .map(|(index, _)| index);
                taken.extend(*counterpart);
            }
        }
    }
    let mut ports: Vec<(usize, Value)> = wanted
        .iter()
        .zip(counterparts)
        .map(|(port, counterpart)| match counterpart {
            None => (found.len(), port.clone()),
            Some(index) => (index, overlaid(found.get(index), port, ours)),
        })
        .collect();
    if !ours {
        for (index, port) in found.iter().enumerate() {
            let is_named = port.get("name").is_some();
            if is_named && !ports.iter().any(|(_, other)| clashes(other, port)) {
                ports.push((index, (*port).clone()));
            }
        }
    }
    ports.sort_by_key(|(index, _)| *index);
    ports.into_iter().map(|(_, port)| port).collect()
}

fn overlaid(found: Option<&&Value>, wanted: &Value, ours: bool) -> Value {
    let kept = found
        .and_then(|port| port.as_object())
        .into_iter()
        .flatten();
    let mut port: Map<String, Value> = kept
        .filter(|(key, _)| !ours || *key == "nodePort")
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (key, value) in wanted.as_object().into_iter().flatten() {
        port.insert(key.clone(), value.clone());
    }
    Value::Object(port)
}

fn protocol(port: &Value) -> &str {
    port.get("protocol")
        .and_then(Value::as_str)
        .unwrap_or("TCP")
}

fn has_name_of(one: &Value, other: &Value) -> bool {
    one.get("name").is_some() && one.get("name") == other.get("name")
}

fn has_number_of(one: &Value, other: &Value) -> bool {
    one.get("port") == other.get("port") && protocol(one) == protocol(other)
}

fn clashes(one: &Value, other: &Value) -> bool {
    has_name_of(one, other) || has_number_of(one, other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        object::Kind,
        workload::fixtures::{deployment, object, yaml},
    };

    fn service(text: &str) -> Service {
        serde_json::from_value(yaml(text)).unwrap()
    }

    fn wanted_of(text: &str) -> Vec<Value> {
        wanted(&service(text), &deployment().body.value())
    }

    #[test]
    fn wanted_has_defaults_of_the_main_port() {
        for (spec, target_port) in [
            ("{port: 80}", json!(80)),
            ("{port: 80, targetPort: 0}", json!(80)),
            ("{port: 80, targetPort: 9898}", json!(9898)),
            ("{port: 80, targetPort: http}", json!("http")),
        ] {
            assert_eq!(
                wanted_of(spec),
                [json!({"name": "http", "protocol": "TCP", "port": 80, "targetPort": target_port})],
                "{spec}"
            );
        }
        assert_eq!(
            wanted_of("{port: 80, portName: grpc, appProtocol: grpc}"),
            [
                json!({"name": "grpc", "protocol": "TCP", "port": 80, "targetPort": 80, "appProtocol": "grpc"})
            ]
        );
    }

    #[test]
    fn wanted_with_discovery_adds_container_ports_but_main_and_sidecar() {
        let metrics =
            json!({"name": "http-metrics", "protocol": "TCP", "port": 9797, "targetPort": 9797});
        let dns =
            json!({"name": "tcp-podinfod-2", "protocol": "UDP", "port": 5353, "targetPort": 5353});
        for spec in [
            "{port: 9898, portDiscovery: true}",
            "{port: 80, targetPort: 9898, portDiscovery: true}",
            "{port: 80, targetPort: http, portDiscovery: true}",
        ] {
            assert_eq!(
                wanted_of(spec)[1..],
                [metrics.clone(), dns.clone()],
                "{spec}"
            );
        }
    }

    #[test]
    fn wanted_with_discovery_never_repeats_a_name_or_number() {
        // Container port 9898 is not the main one here, but is called `http` like the main port.
        let ports = wanted_of("{port: 9797, targetPort: 8080, portDiscovery: true}");
        assert_eq!(ports.len(), 2, "{ports:?}");
        assert_eq!(ports[1]["port"], 5353);
    }

    fn existing(ports: &str) -> Object {
        object(
            Kind::Service,
            &format!("{{metadata: {{name: s}}, spec: {{ports: {ports}}}}}"),
        )
    }

    #[test]
    fn reconciled_keeps_order_and_node_ports() {
        let wanted = wanted_of("{port: 80, targetPort: 9898, portDiscovery: true}");
        let found = existing(
            "[{name: tcp-podinfod-2, protocol: UDP, port: 5353, targetPort: 5353},
              {name: http-metrics, protocol: TCP, port: 9797, targetPort: 9797, nodePort: 30001},
              {name: http, protocol: TCP, port: 80, targetPort: 9898, nodePort: 30000}]",
        );
        let before = found.body.value();
        assert_eq!(
            &json!(reconciled(&wanted, &found, true)),
            &before["spec"]["ports"]
        );
    }

    #[test]
    fn reconciled_keeps_a_node_port_through_a_change_of_number_or_name() {
        let wanted = wanted_of("{port: 81, targetPort: 9898}");
        let found = existing("[{name: http, port: 80, targetPort: 9898, nodePort: 30000}]");
        let ports = reconciled(&wanted, &found, true);
        assert_eq!(
            (&ports[0]["port"], &ports[0]["nodePort"]),
            (&json!(81), &json!(30000))
        );
        let found = existing("[{name: web, port: 81, targetPort: 9898, nodePort: 30000}]");
        let ports = reconciled(&wanted, &found, true);
        assert_eq!(ports.len(), 1);
        assert_eq!(
            (&ports[0]["name"], &ports[0]["nodePort"]),
            (&json!("http"), &json!(30000))
        );
    }

    #[test]
    fn reconciled_drops_other_ports_only_of_our_own_services() {
        let wanted = wanted_of("{port: 80}");
        let found = existing(
            "[{name: admin, port: 8081, protocol: TCP, targetPort: 8081},
              {name: http, port: 80, protocol: TCP, targetPort: 80, appProtocol: http}]",
        );
        assert_eq!(reconciled(&wanted, &found, true), wanted);
        let adopted = reconciled(&wanted, &found, false);
        assert_eq!(json!(adopted), found.body.value()["spec"]["ports"]);
    }
}
