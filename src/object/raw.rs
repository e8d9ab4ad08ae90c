//! API objects as they come from the wire.

use std::{borrow::Cow, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, DynamicResourceScope, Resource};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// An API object of any kind, read in one go: kube's `DynamicObject` flattens, and so reads all
/// twice.
#[derive(Clone, Debug, Default)]
pub struct Raw {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// All but `apiVersion`, `kind` and `metadata`.
    pub body: Map<String, Value>,
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an API object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Raw, A::Error> {
        let mut raw = Raw::default();
        while let Some(field) = fields.next_key::<String>()? {
            match field.as_str() {
                "metadata" => raw.metadata = fields.next_value()?,
                "apiVersion" | "kind" => {
                    fields.next_value::<IgnoredAny>()?;
                }
                _ => {
                    raw.body.insert(field, fields.next_value()?);
                }
            }
        }
        Ok(raw)
    }
}
