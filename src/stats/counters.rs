//! Increments from raw cumulative counters.

use std::collections::BTreeMap;

use super::look::Side;
use super::primitive::is_count;

/// The last values of one metric's counters.
///
/// Increments are differences of raw counters summed over series, never extrapolated. Held in
/// memory only: after a restart the counters are read again at the time of the last look, see
/// [`Judge::rebase`](super::Judge::rebase).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    based: bool,
    primary: BTreeMap<String, Vec<f64>>,
    canary: BTreeMap<String, Vec<f64>>,
}

impl Counters {
    /// What both sides gained since the previous look, `length` components each; none for a side
    /// that is absent or of another length.
    ///
    /// The first look with any series, on either side, is the base and gains 0. A series seen
    /// first later gains its value (its pod is new), as does one of which any component fell (it
    /// restarted). The last value of a series that vanishes is kept. A series whose values do not
    /// fit (wrong length, negative, not finite) is not seen.
    pub fn increments(
        &mut self,
        primary: &Side,
        canary: &Side,
        length: usize,
    ) -> [Option<Vec<f64>>; 2] {
        let based = self.based;
        let gains = [
            gained(&mut self.primary, primary, length, based),
            gained(&mut self.canary, canary, length, based),
        ];
        self.based = based || !self.primary.is_empty() || !self.canary.is_empty();
        gains
    }
}

fn gained(
    last: &mut BTreeMap<String, Vec<f64>>,
    side: &Side,
    length: usize,
    based: bool,
) -> Option<Vec<f64>> {
    let fits = |values: &[f64]| values.len() == length && values.iter().copied().all(is_count);
    match side {
        Side::Absent | Side::Scalar(_) => None,
        Side::Increments(values) => fits(values).then(|| values.clone()),
        Side::Counters(series) => {
            let mut sum = vec![0.0; length];
            let mut any = false;
            for (name, values) in series.iter().filter(|(_, values)| fits(values)) {
                any = true;
                let earlier = last.insert(name.clone(), values.clone());
                if !based {
                    continue;
                }
                let grew = earlier.filter(|earlier| {
                    earlier.len() == length
                        && earlier.iter().zip(values).all(|(old, new)| new >= old)
                });
                for (at, (total, value)) in sum.iter_mut().zip(values).enumerate() {
                    let before = grew
                        .as_ref()
                        .and_then(|earlier| earlier.get(at))
                        .copied()
                        .unwrap_or(0.0);
                    *total += value - before;
                }
            }
            any.then_some(sum)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn side(json: &str) -> Side {
        let reading: super::super::look::Reading =
            serde_json::from_str(&format!(r#"{{"primary":{json}}}"#)).unwrap();
        reading.primary
    }

    fn canary_gains(looks: &[&str]) -> Vec<Option<Vec<f64>>> {
        let mut counters = Counters::default();
        looks
            .iter()
            .map(|json| {
                let [_, canary] = counters.increments(&side(r#"{"p":[1,1]}"#), &side(json), 2);
                canary
            })
            .collect()
    }

    #[test]
    fn increments_at_the_first_look_are_the_base() {
        assert_eq!(canary_gains(&[r#"{"a":[9,1]}"#]), [Some(vec![0.0, 0.0])]);
    }

    #[test]
    fn increments_of_a_new_a_grown_and_a_restarted_series_add_up() {
        let gains = canary_gains(&[
            "{}",
            r#"{"a":[9,1]}"#,
            r#"{"a":[12,1],"b":[3,0]}"#,
            r#"{"a":[20,0],"b":[4,0]}"#,
        ]);
        assert_eq!(
            gains,
            [
                None,
                Some(vec![9.0, 1.0]),
                Some(vec![6.0, 0.0]),
                Some(vec![21.0, 0.0])
            ]
        );
    }

    #[test]
    fn increments_of_a_series_that_misses_a_look_cover_the_gap() {
        let gains = canary_gains(&[
            "{}",
            r#"{"a":[9,1]}"#,
            r#"{"a":[null,1]}"#,
            r#"{"a":[15,2]}"#,
        ]);
        assert_eq!(
            gains,
            [None, Some(vec![9.0, 1.0]), None, Some(vec![6.0, 1.0])]
        );
    }
}
