//! How a release advances: from one weight or iteration to the next.

use crate::{
    api::{Analysis, Strategy},
    route::Capabilities,
};

/// What a release does after a check that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Copy requests to the canary, which still gets no real ones.
    Mirror,
    /// Give the canary this share of traffic, in percent.
    Weight(i32),
    /// Count one more check of a blue/green release or A/B test.
    Iterate(i32),
    /// Blue/green: give the canary all traffic for a last check.
    Switch,
    /// Promote.
    Promote,
    /// Stay: the judge is undecided.
    Stay,
}

impl Step {
    /// Whether more users get the new version by it.
    pub fn exposes(self) -> bool {
        match self {
            Self::Weight(_) | Self::Switch | Self::Promote => true,
            Self::Mirror | Self::Iterate(_) | Self::Stay => false,
        }
    }
}

/// Where a release stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Steps taken, the mirror step included.
    pub step: i32,
    /// Share of traffic of the canary, in percent.
    pub weight: i32,
    /// Iterations done.
    pub iterations: i32,
}

/// The highest share of traffic before promotion, in percent, 1 to 100.
pub fn max_weight(analysis: &Analysis) -> i32 {
    let steps = analysis.step_weights.as_deref().unwrap_or_default();
    match (steps.last(), analysis.step_weight.unwrap_or_default()) {
        (Some(last), step) if step <= 0 => (*last).clamp(1, 100),
        _ => analysis
            .max_weight
            .filter(|w| *w > 0)
            .map_or(100, |w| w.min(100)),
    }
}

/// Number of checks of a blue/green release or A/B test. Without a mesh every release is
/// blue/green, with 10 checks unless told otherwise.
pub fn iterations(analysis: &Analysis, can: Capabilities) -> i32 {
    match analysis.iterations() {
        0 if !can.weights => 10,
        n => n,
    }
}

/// The strategy that the route API can carry out.
pub fn strategy(analysis: &Analysis, can: Capabilities) -> Strategy {
    match analysis.strategy() {
        Strategy::AbTesting if !can.headers => Strategy::BlueGreen,
        strategy if can.weights => strategy,
        Strategy::Canary | Strategy::AbTesting | Strategy::BlueGreen => Strategy::BlueGreen,
    }
}

/// The next step of a release whose last check passed.
///
/// Total for every input: weights outside 0..=100, unsorted step lists and lists edited during a
/// run still end in [`Step::Promote`] after finitely many steps, as each step raises the weight.
pub fn next(analysis: &Analysis, can: Capabilities, at: Progress) -> Step {
    let mirror = analysis.mirror.unwrap_or_default() && can.mirror;
    match strategy(analysis, can) {
        Strategy::Canary => {
            if mirror && at.step == 0 && at.weight <= 0 {
                return Step::Mirror;
            }
            next_weight(analysis, at.weight).map_or(Step::Promote, Step::Weight)
        }
        Strategy::AbTesting => {
            if at.iterations < iterations(analysis, can) {
                Step::Iterate(at.iterations.max(0) + 1)
            } else {
                Step::Promote
            }
        }
        Strategy::BlueGreen => {
            if at.iterations < iterations(analysis, can) {
                Step::Iterate(at.iterations.max(0) + 1)
            } else if can.weights && at.weight < 100 {
                Step::Switch
            } else {
                Step::Promote
            }
        }
    }
}

/// The canary's share of traffic after the next step that gives it more, in (0, 1].
pub fn next_share(analysis: &Analysis, can: Capabilities, weight: i32) -> f64 {
    match strategy(analysis, can) {
        Strategy::Canary => {
            next_weight(analysis, weight).map_or(1.0, |next| f64::from(next) / 100.0)
        }
        Strategy::AbTesting | Strategy::BlueGreen => 1.0,
    }
}

/// The weight after `weight`; `None` when the highest is reached.
fn next_weight(analysis: &Analysis, weight: i32) -> Option<i32> {
    let max = max_weight(analysis);
    if weight >= max {
        return None;
    }
    let step = analysis.step_weight.unwrap_or_default();
    let next = if step > 0 {
        // The last step is cut to the highest weight: users asked for no more.
        weight.max(0).saturating_add(step)
    } else {
        // A weight that is not in the list (the list was edited) goes on with the next above.
        analysis
            .step_weights
            .iter()
            .flatten()
            .copied()
            .filter(|w| *w > weight)
            .min()
            .unwrap_or(max)
    };
    Some(next.clamp(1, max))
}

/// The canary's weight after one step of giving traffic back to the primary.
pub fn next_return(analysis: &Analysis, weight: i32) -> i32 {
    match analysis.step_weight_promotion {
        Some(step) if step > 0 => weight.saturating_sub(step).clamp(0, 100),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MESH: Capabilities = Capabilities {
        weights: true,
        headers: true,
        mirror: true,
        sticky: true,
    };
    const NO_MESH: Capabilities = Capabilities {
        weights: false,
        headers: false,
        mirror: false,
        sticky: false,
    };

    /// All steps of a release in which every check passes.
    fn walk(analysis: &Analysis, can: Capabilities) -> Vec<Step> {
        let mut at = Progress {
            step: 0,
            weight: 0,
            iterations: 0,
        };
        let mut steps = Vec::new();
        for _ in 0..500 {
            let step = next(analysis, can, at);
            steps.push(step);
            at.step += 1;
            match step {
                Step::Mirror | Step::Stay => {}
                Step::Weight(w) => at.weight = w,
                Step::Iterate(n) => at.iterations = n,
                Step::Switch => at.weight = 100,
                Step::Promote => return steps,
            }
        }
        steps
    }

    fn analysis(step: i32, max: i32) -> Analysis {
        Analysis {
            step_weight: Some(step),
            max_weight: Some(max),
            ..Analysis::default()
        }
    }

    #[test]
    fn canary_with_step_weight_rises_to_the_highest_and_is_promoted() {
        use Step::{Promote, Weight};
        assert_eq!(
            walk(&analysis(20, 60), MESH),
            [Weight(20), Weight(40), Weight(60), Promote]
        );
        assert_eq!(
            walk(&analysis(20, 50), MESH),
            [Weight(20), Weight(40), Weight(50), Promote],
            "the last step is cut to maxWeight"
        );
        assert_eq!(walk(&analysis(150, 150), MESH), [Weight(100), Promote]);
    }

    #[test]
    fn canary_with_step_weights_takes_each_and_goes_on_after_an_edit() {
        use Step::{Promote, Weight};
        let list = Analysis {
            step_weights: Some(vec![1, 10, 80]),
            max_weight: Some(50),
            ..Analysis::default()
        };
        assert_eq!(
            walk(&list, MESH),
            [Weight(1), Weight(10), Weight(80), Promote]
        );
        let at = Progress {
            step: 2,
            weight: 30,
            iterations: 0,
        };
        assert_eq!(next(&list, MESH, at), Weight(80), "30 is not in the list");
    }

    #[test]
    fn canary_with_mirror_copies_requests_once_where_the_route_can() {
        let mut mirrored = analysis(50, 50);
        mirrored.mirror = Some(true);
        assert_eq!(
            walk(&mirrored, MESH),
            [Step::Mirror, Step::Weight(50), Step::Promote]
        );
        let cannot = Capabilities {
            weights: true,
            headers: true,
            mirror: false,
            sticky: true,
        };
        assert_eq!(walk(&mirrored, cannot), [Step::Weight(50), Step::Promote]);
    }

    #[test]
    fn blue_green_switches_all_traffic_for_a_last_check() {
        use Step::{Iterate, Promote, Switch};
        let mut policy = Analysis {
            iterations: Some(2),
            ..Analysis::default()
        };
        assert_eq!(
            walk(&policy, MESH),
            [Iterate(1), Iterate(2), Switch, Promote]
        );
        assert_eq!(walk(&policy, NO_MESH), [Iterate(1), Iterate(2), Promote]);
        policy.matches = Some(vec![crate::api::istio::HttpMatch::default()]);
        assert_eq!(walk(&policy, MESH), [Iterate(1), Iterate(2), Promote]);
    }

    #[test]
    fn release_without_a_mesh_is_blue_green_with_ten_checks() {
        assert_eq!(walk(&analysis(10, 50), NO_MESH).len(), 11);
    }

    proptest! {
        #[test]
        fn release_always_arrives_and_never_sinks(
            step in proptest::option::of(-200..200),
            max in proptest::option::of(-200..200),
            list in proptest::option::of(proptest::collection::vec(-50..150, 0..6)),
            iterations in proptest::option::of(-3..20),
            mirror: Option<bool>, weights: bool, can_mirror: bool,
        ) {
            let policy = Analysis {
                step_weight: step, max_weight: max, step_weights: list,
                iterations, mirror, ..Analysis::default()
            };
            let steps = walk(&policy, Capabilities { weights, headers: weights, mirror: can_mirror, sticky: weights });
            prop_assert_eq!(steps.last(), Some(&Step::Promote));
            let mut before = 0;
            for step in steps {
                if let Step::Weight(w) = step {
                    prop_assert!(w > before && w <= max_weight(&policy).max(1) && w <= 100);
                    before = w;
                }
            }
        }
    }
}
