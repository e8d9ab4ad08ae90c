//! What a scenario changes as a release goes on.

use serde_json::{Value, json};

use super::{
    Scenario, World,
    event::{Event, Subject, Version},
    recorder::Recorder,
    released::Target,
    rollout::{Release, RolloutError},
    server::Refusal,
};

/// What a scenario changes as a release goes on.
pub struct Weather<'a> {
    release: &'a Release,
    target: &'a Target,
    step: u32,
    /// How often each event has happened.
    happened: Vec<u64>,
    /// What cannot be done as the scenario wants it.
    pub fault: Option<RolloutError>,
}

impl<'a> Weather<'a> {
    /// Nothing has happened yet.
    pub fn new(release: &'a Release, target: &'a Target) -> Self {
        Self {
            release,
            target,
            step: 0,
            happened: vec![0; release.options.scenario.events.len()],
            fault: None,
        }
    }

    fn scenario(&self) -> &'a Scenario {
        &self.release.options.scenario
    }

    /// Lets happen what is due.
    pub fn change(&mut self, world: &World, seen: &mut Recorder<'_>) {
        let scenario = self.scenario();
        let second = seen.since(world).as_secs();
        let rate = scenario.traffic.rate(scenario.requests_per_second, second);
        world.traffic().set_rate(rate);
        let step = seen.step();
        if step > self.step {
            self.step = step;
            let behaviour = scenario.release.at_step(step);
            if behaviour != scenario.release {
                world.set_behaviour(&self.target.next_image, behaviour);
            }
        }
        for (event, happened) in scenario.events.iter().zip(&mut self.happened) {
            let due = event.count_by(second);
            if due <= *happened || self.fault.is_some() {
                continue;
            }
            // What was due meanwhile, while nobody looked, happens once.
            *happened = due;
            match happen(world, self.release, self.target, event) {
                Ok(message) => seen.note(world, message),
                Err(fault) => self.fault = Some(fault),
            }
        }
    }
}

/// Lets an event happen; what it is, in words.
fn happen(
    world: &World,
    release: &Release,
    target: &Target,
    event: &Event,
) -> Result<String, RolloutError> {
    if let Some(edit) = &event.edit {
        let subject = Subject {
            api_version: edit.api_version.clone(),
            kind: edit.kind.clone(),
            name: edit.name.clone(),
        };
        merge(world, release, &subject, edit.patch.clone())?;
        return Ok(format!("Somebody edits {} {}", edit.kind, edit.name));
    }
    if let Some(subject) = &event.reapply {
        let manifest = wanted(release, target, subject)?;
        merge(world, release, subject, manifest)?;
        let Subject { kind, name, .. } = subject;
        return Ok(format!("Git operations apply {kind} {name} again"));
    }
    if let Some(change) = &event.behave {
        let (image, version) = match change.version {
            Version::Stable => (&target.image, "old"),
            Version::Release => (&target.next_image, "new"),
        };
        world.set_behaviour(image, change.like.clone());
        return Ok(format!(
            "The {version} version starts to behave differently"
        ));
    }
    if let Some(answers) = &event.webhooks {
        world.surroundings().answer(answers.clone());
        return Ok(format!("Webhooks answer {} from now on", answers.status));
    }
    let status = event.alert_status.unwrap_or(200);
    world.surroundings().answer_alerts(status);
    Ok(format!("Chats answer {status} from now on"))
}

/// An object as Git has it: the file, and of the released workload the new version.
fn wanted(release: &Release, target: &Target, subject: &Subject) -> Result<Value, RolloutError> {
    let manifest = release.manifests.iter().find(|manifest| {
        manifest["apiVersion"] == subject.api_version.as_str()
            && manifest["kind"] == subject.kind.as_str()
            && manifest["metadata"]["name"] == subject.name.as_str()
            && manifest["metadata"]["namespace"] == release.namespace.as_str()
    });
    let mut manifest = manifest
        .cloned()
        .ok_or_else(|| refused(subject, "no file has it, so it cannot be applied again"))?;
    let workload = matches!(subject.kind.as_str(), "Deployment" | "DaemonSet");
    if workload && subject.name == target.name {
        let container = manifest.pointer_mut("/spec/template/spec/containers/0");
        if let Some(container) = container {
            container["image"] = json!(target.next_image);
        }
    }
    if let Some(map) = manifest.as_object_mut() {
        map.remove("status");
    }
    Ok(manifest)
}

fn merge(
    world: &World,
    release: &Release,
    subject: &Subject,
    patch: Value,
) -> Result<(), RolloutError> {
    let Subject {
        api_version,
        kind,
        name,
    } = subject;
    let resource = world
        .server()
        .resource_of(api_version, kind)
        .ok_or_else(|| refused(subject, "the simulated cluster has no such kind"))?;
    let names = (resource.group.as_str(), resource.plural.as_str());
    let place = (release.namespace.as_str(), name.as_str());
    world
        .patch(names, place, patch)
        .map(drop)
        .map_err(|refusal: Refusal| refused(subject, &refusal.details.message))
}

fn refused(subject: &Subject, reason: &str) -> RolloutError {
    RolloutError::Refused {
        object: format!("the scenario's event on {} {}", subject.kind, subject.name),
        reason: reason.to_owned(),
    }
}
