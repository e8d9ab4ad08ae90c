//! The workload that is released, and its next version.

use serde_json::json;

use super::{
    World,
    rollout::{Release, RolloutError},
    server::Refusal,
    users,
};
use crate::{
    api::{Canary, TargetKind},
    route::istio::eval::Request,
};

/// The workload that is released.
pub struct Target {
    /// The plural name of its kind.
    pub plural: &'static str,
    /// Its name.
    pub name: String,
    /// The image of the version that runs.
    pub image: String,
    /// The image of the version that is released.
    pub next_image: String,
    /// The host that users ask for.
    pub host: String,
    /// Kinds of requests that its routes tell apart, and their shares in percent.
    pub special: Vec<(f64, Request)>,
    /// Whether users keep the cookies that its routes give them.
    pub sticky: bool,
}

impl Target {
    /// The target of the Canary that is released.
    ///
    /// # Errors
    /// When it is not there, or has no pods.
    pub fn of(world: &World, release: &Release) -> Result<Self, RolloutError> {
        let canary: Canary = world
            .canary(&release.namespace, &release.canary)
            .ok_or_else(|| RolloutError::NoCanary(release.canary.clone()))?;
        let reference = &canary.spec.target_ref;
        let plural = match reference.kind {
            TargetKind::Deployment => "deployments",
            TargetKind::DaemonSet => "daemonsets",
            TargetKind::Service => return Err(RolloutError::NoPods(release.canary.clone())),
        };
        let object = world
            .server()
            .get("apps", plural, &release.namespace, &reference.name);
        let object = object.ok_or_else(|| RolloutError::NoTarget {
            canary: release.canary.clone(),
            target: format!("{} {}", reference.kind.as_str(), reference.name),
        })?;
        let container = &object.value()["spec"]["template"]["spec"]["containers"][0];
        let image = container["image"].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            plural,
            name: reference.name.clone(),
            next_image: next_image(&image),
            image,
            host: canary.spec.apex_name().to_owned(),
            special: users::chosen(&canary),
            sticky: canary.spec.analysis.session_affinity.is_some(),
        })
    }

    /// Gives it the image of the new version.
    ///
    /// # Errors
    /// What the API server refuses.
    pub fn release(&self, world: &World, release: &Release) -> Result<(), Refusal> {
        let object = world
            .server()
            .get("apps", self.plural, &release.namespace, &self.name);
        let Some(object) = object else { return Ok(()) };
        let mut containers = object.value()["spec"]["template"]["spec"]["containers"].clone();
        if let Some(first) = containers.get_mut(0) {
            first["image"] = json!(self.next_image);
        }
        world
            .patch(
                ("apps", self.plural),
                (&release.namespace, &self.name),
                json!({"spec": {"template": {"spec": {"containers": containers}}}}),
            )
            .map(drop)
    }
}

/// An image with the tag of a new version: the last number is one more, or `-next` is appended.
fn next_image(image: &str) -> String {
    let digits = image.len() - image.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (start, number) = image.split_at(digits);
    match number.parse::<u64>() {
        Ok(number) if start.contains(':') && !image.contains('@') => {
            format!("{start}{}", number.saturating_add(1))
        }
        _ if image.contains(':') && !image.contains('@') => format!("{image}-next"),
        _ => format!("{}:next", image.split('@').next().unwrap_or(image)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_image_has_another_tag() {
        for (image, next) in [
            ("shop:1.0", "shop:1.1"),
            ("ghcr.io/a/b:6.0.9", "ghcr.io/a/b:6.0.10"),
            ("a/b:v2", "a/b:v3"),
            ("a/b:latest", "a/b:latest-next"),
            ("a/b", "a/b:next"),
            ("a/b2", "a/b2:next"),
            ("a/b@sha256:12", "a/b:next"),
        ] {
            assert_eq!(next_image(image), next);
        }
    }
}
