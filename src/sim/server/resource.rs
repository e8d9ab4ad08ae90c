//! The resources that the server knows: built-in ones and those that a CRD adds.

use std::sync::Arc;

use crate::schema::{Schema, builtin, metadata::NameRule};

/// Where `/scale` finds its numbers in a custom resource, as dotted paths without a leading dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// The wanted count, such as `spec.replicas`.
    pub spec: String,
    /// The observed count, such as `status.replicas`.
    pub status: String,
    /// The selector as text, when there is one.
    pub selector: Option<String>,
}

/// One served version of a resource.
#[derive(Clone, Debug)]
pub struct Version {
    /// The name, such as `v1beta1`.
    pub name: String,
    /// Whether requests may use it.
    pub served: bool,
    /// The schema of its objects.
    pub schema: Arc<Schema>,
    /// Whether `/status` exists.
    pub status: bool,
    /// The paths of `/scale`, when it exists.
    pub scale: Option<ScalePaths>,
    /// Fields that a field selector may name besides name and namespace.
    pub selectable: Vec<String>,
}

/// How writes of a resource behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts of a resource
pub struct Conduct {
    /// `metadata.generation` is kept.
    pub generation: bool,
    /// PUT without a resourceVersion is allowed: the last write wins.
    pub unconditional_update: bool,
    /// PUT of a missing object creates it.
    pub create_on_update: bool,
    /// DELETE answers with the object instead of a `Status`.
    pub returns_deleted: bool,
    /// What a name may look like.
    pub name: NameRule,
}

/// A resource: its names, scope, versions and conduct.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The place in the registry; objects are kept by it.
    pub index: usize,
    /// The API group; empty for core.
    pub group: String,
    /// The plural name used in paths.
    pub plural: String,
    /// The singular name.
    pub singular: String,
    /// The kind.
    pub kind: String,
    /// Short names for people.
    pub short_names: Vec<String>,
    /// Objects live in namespaces.
    pub namespaced: bool,
    /// Versions, preferred first.
    pub versions: Vec<Version>,
    /// The version in which objects are kept, as a place in `versions`.
    pub storage: usize,
    /// Added by a CRD.
    pub custom: bool,
    /// Which definition this is made of: its UID and generation; empty for built-in kinds.
    pub edition: String,
    /// How writes behave.
    pub conduct: Conduct,
}

impl Resource {
    /// The served version of this name.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions
            .iter()
            .find(|version| version.served && version.name == name)
    }

    /// `apiVersion` for a version name.
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() {
            version.to_owned()
        } else {
            format!("{}/{version}", self.group)
        }
    }

    /// The version in which objects are kept.
    pub fn stored(&self) -> Option<&Version> {
        self.versions.get(self.storage)
    }
}

/// Every resource, in the order of registration.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    all: Vec<Arc<Resource>>,
}

/// One line of the table of built-in resources.
struct Row(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

/// Group, version, plural, kind, type in `builtin.types` (`-` for none), flags: n namespaced, s status,
/// c scale, g generation, d DELETE answers with the object, l lease-like (PUT creates, needs a version),
/// p PUT creates, 1 RFC 1035 names, b RFC 1123 label names, r RBAC names, v PUT needs a resourceVersion.
const BUILTIN: [Row; 20] = [
    Row(
        "",
        "v1",
        "namespaces",
        "Namespace",
        "core.v1.Namespace",
        "sdb",
    ),
    Row(
        "",
        "v1",
        "configmaps",
        "ConfigMap",
        "core.v1.ConfigMap",
        "n",
    ),
    Row("", "v1", "secrets", "Secret", "core.v1.Secret", "n"),
    Row("", "v1", "services", "Service", "core.v1.Service", "nsdp1"),
    Row(
        "",
        "v1",
        "serviceaccounts",
        "ServiceAccount",
        "core.v1.ServiceAccount",
        "nd",
    ),
    Row("", "v1", "pods", "Pod", "core.v1.Pod", "nsdg"),
    Row("", "v1", "events", "Event", "core.v1.Event", "np"),
    Row(
        "events.k8s.io",
        "v1",
        "events",
        "Event",
        "events.v1.Event",
        "np",
    ),
    Row(
        "apps",
        "v1",
        "deployments",
        "Deployment",
        "apps.v1.Deployment",
        "nscg",
    ),
    Row(
        "apps",
        "v1",
        "replicasets",
        "ReplicaSet",
        "apps.v1.ReplicaSet",
        "nscg",
    ),
    Row(
        "apps",
        "v1",
        "daemonsets",
        "DaemonSet",
        "apps.v1.DaemonSet",
        "nsg",
    ),
    Row(
        "apps",
        "v1",
        "statefulsets",
        "StatefulSet",
        "apps.v1.StatefulSet",
        "nscg",
    ),
    Row(
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        "autoscaling.v2.HorizontalPodAutoscaler",
        "ns",
    ),
    Row(
        "networking.k8s.io",
        "v1",
        "ingresses",
        "Ingress",
        "networking.v1.Ingress",
        "nsg",
    ),
    Row(
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        "EndpointSlice",
        "discovery.v1.EndpointSlice",
        "ng",
    ),
    Row(
        "coordination.k8s.io",
        "v1",
        "leases",
        "Lease",
        "coordination.v1.Lease",
        "npv",
    ),
    Row(
        "rbac.authorization.k8s.io",
        "v1",
        "roles",
        "Role",
        "rbac.v1.Role",
        "npr",
    ),
    Row(
        "rbac.authorization.k8s.io",
        "v1",
        "rolebindings",
        "RoleBinding",
        "rbac.v1.RoleBinding",
        "npr",
    ),
    Row(
        "rbac.authorization.k8s.io",
        "v1",
        "clusterroles",
        "ClusterRole",
        "rbac.v1.ClusterRole",
        "pr",
    ),
    Row(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        "-",
        "sgv",
    ),
];

impl Registry {
    /// The built-in resources.
    pub fn builtin() -> Self {
        let mut registry = Self::default();
        for Row(group, version, plural, kind, ty, flags) in BUILTIN {
            let has = |flag: char| flags.contains(flag);
            let scale = has('c').then(|| ScalePaths {
                spec: "spec.replicas".to_owned(),
                status: "status.replicas".to_owned(),
                selector: None,
            });
            registry.add(Resource {
                edition: String::new(),
                index: 0,
                group: group.to_owned(),
                plural: plural.to_owned(),
                singular: kind.to_lowercase(),
                kind: kind.to_owned(),
                short_names: Vec::new(),
                namespaced: has('n'),
                versions: vec![Version {
                    name: version.to_owned(),
                    served: true,
                    schema: builtin(ty).unwrap_or_else(Schema::any),
                    status: has('s'),
                    scale,
                    selectable: selectable(plural),
                }],
                storage: 0,
                custom: false,
                conduct: Conduct {
                    generation: has('g'),
                    unconditional_update: !has('v'),
                    create_on_update: has('p'),
                    returns_deleted: has('d'),
                    name: match () {
                        () if has('1') => NameRule::Label1035,
                        () if has('b') => NameRule::Label,
                        () if has('r') => NameRule::Segment,
                        () => NameRule::Subdomain,
                    },
                },
            });
        }
        registry
    }

    /// Adds a resource, or replaces the one of the same group and plural name.
    pub fn add(&mut self, mut resource: Resource) -> Arc<Resource> {
        let known = self
            .find(&resource.group, &resource.plural)
            .map(|known| known.index);
        resource.index = known.unwrap_or(self.all.len());
        let resource = Arc::new(resource);
        match known.and_then(|index| self.all.get_mut(index)) {
            Some(place) => *place = resource.clone(),
            None => self.all.push(resource.clone()),
        }
        resource
    }

    /// Takes a custom resource out of service: requests for it find nothing.
    pub fn remove(&mut self, group: &str, plural: &str) {
        if let Some(known) = self.find(group, plural) {
            let mut gone = Resource::clone(&known);
            for version in &mut gone.versions {
                version.served = false;
            }
            self.add(gone);
        }
    }

    /// All resources.
    pub fn all(&self) -> &[Arc<Resource>] {
        &self.all
    }

    /// The resource with this group and plural name.
    pub fn find(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.all
            .iter()
            .find(|resource| resource.plural == plural && resource.group == group)
            .cloned()
    }

    /// The resource with this `apiVersion` and kind, with the version's name.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<(Arc<Resource>, String)> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        self.all
            .iter()
            .find(|resource| {
                resource.kind == kind
                    && resource.group == group
                    && resource.version(version).is_some()
            })
            .map(|resource| (resource.clone(), version.to_owned()))
    }
}

fn selectable(plural: &str) -> Vec<String> {
    let fields: &[&str] = match plural {
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        "secrets" => &["type"],
        "namespaces" => &["status.phase"],
        "services" => &["spec.clusterIP", "spec.type"],
        "replicasets" => &["status.replicas"],
        _ => &[],
    };
    fields.iter().map(|&field| field.to_owned()).collect()
}
