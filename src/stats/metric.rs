//! One metric: from its reading in a look to its streams' slices.

use super::config::{HistogramSettings, MetricConfig, MetricKind, RatioSettings, ScalarSettings};
use super::counters::Counters;
use super::finding::Detail;
use super::latency::{LatencyState, boundaries, count_slower};
use super::look::{Look, Reading, Side};
use super::primitive::{Boundary, Slice, log_sum_exp};
use super::scalar;
use super::state::MetricState;
use super::stream::{FAIL_BETS, PASS_BETS, Rules, StreamState};

const LARGEST_BAD_INCREASE: f64 = 0.25;

/// What one look adds to a metric.
pub(super) struct Played {
    /// Canary requests judged, the largest over the streams.
    pub gained: f64,
    /// φ used, per stream.
    pub phi: Vec<f64>,
}

/// What of a look concerns every metric.
#[derive(Clone, Copy)]
pub(super) struct Circumstances {
    cold: bool,
    /// w', the canary's share of traffic after this step; in (0, 1].
    next: f64,
    /// The most that ln of one bet may grow by in one slice.
    cap: f64,
}

impl Circumstances {
    pub(super) fn of(look: &Look, alpha: f64) -> Self {
        let next = look
            .next
            .filter(|share| *share > 0.0 && *share <= 1.0)
            .unwrap_or(1.0);
        Self {
            cold: look.cold,
            next,
            cap: -0.9 * alpha.ln(),
        }
    }
}

impl MetricState {
    /// A metric about which nothing is known.
    pub(super) fn new(kind: &MetricKind) -> Self {
        match kind {
            MetricKind::Ratio(_) => Self {
                streams: vec![StreamState::counting()],
                latency: None,
            },
            MetricKind::Histogram(_) => Self {
                streams: Vec::new(),
                latency: Some(LatencyState::default()),
            },
            MetricKind::Scalar(_) => {
                let stream =
                    StreamState::with_bets(scalar::FAIL_BETS.len(), scalar::PASS_BETS.len());
                Self {
                    streams: vec![stream],
                    latency: None,
                }
            }
        }
    }

    /// Judge one look's reading.
    pub(super) fn play(
        &mut self,
        kind: &MetricKind,
        reading: &Reading,
        counters: &mut Counters,
        around: Circumstances,
    ) -> Played {
        match kind {
            MetricKind::Ratio(settings) => self.play_ratio(settings, reading, counters, around),
            MetricKind::Histogram(settings) => {
                self.play_histogram(settings, reading, counters, around)
            }
            MetricKind::Scalar(settings) => self.play_scalar(settings, reading, around),
        }
    }

    fn play_ratio(
        &mut self,
        settings: &RatioSettings,
        reading: &Reading,
        counters: &mut Counters,
        around: Circumstances,
    ) -> Played {
        let [primary, canary] = counters.increments(&reading.primary, &reading.canary, 2);
        let pair = |side: Option<Vec<f64>>| {
            side.and_then(|side| side.first().copied().zip(side.get(1).copied()))
        };
        let slice = Slice::new(pair(primary), pair(canary));
        let rules = ratio_rules(settings, bad_increase(settings.harm, around.next));
        self.play_streams(|_| slice, |_| rules, settings.skip_cold, around)
    }

    fn play_histogram(
        &mut self,
        settings: &HistogramSettings,
        reading: &Reading,
        counters: &mut Counters,
        around: Circumstances,
    ) -> Played {
        let le = boundaries(reading);
        // Without usable boundaries no series fits, but the counters stay as they were.
        let [primary, canary] = le.map_or([None, None], |le| {
            counters.increments(&reading.primary, &reading.canary, le.len() + 1)
        });
        let mut latency = self.latency.take().unwrap_or_default();
        latency.choose_bounds(
            settings,
            le.filter(|_| primary.is_some() || canary.is_some()),
        );
        self.streams
            .resize_with(latency.bounds.len(), StreamState::counting);
        let canary_requests = canary
            .as_ref()
            .and_then(|counts| counts.last())
            .is_some_and(|n| *n > 0.0);
        if latency.is_open() && canary_requests && !latency.bounds.is_empty() {
            latency.choose_ratios(settings);
        }
        let slice = |at: usize| {
            let bound = latency.bounds.get(at)?;
            let at = le?.iter().position(|le| le.total_cmp(bound).is_eq())?;
            Some(Slice::new(
                count_slower(primary.as_ref(), at),
                count_slower(canary.as_ref(), at),
            ))
        };
        let rules = |at: usize| {
            histogram_rules(
                settings,
                &latency,
                at,
                bad_increase(settings.harm, around.next),
            )
        };
        let played = self.play_streams(
            |at| slice(at).unwrap_or_default(),
            rules,
            settings.skip_cold,
            around,
        );
        if let (Some(le), Some(counts)) = (le, &primary) {
            latency.learn(le, counts);
        }
        self.latency = Some(latency);
        played
    }

    fn play_streams(
        &mut self,
        slice: impl Fn(usize) -> Slice,
        rules: impl Fn(usize) -> Rules,
        skip_cold: bool,
        around: Circumstances,
    ) -> Played {
        let mut played = Played {
            gained: 0.0,
            phi: Vec::with_capacity(self.streams.len()),
        };
        for (at, stream) in self.streams.iter_mut().enumerate() {
            let rules = rules(at);
            played.phi.push(stream.phi(rules.dispersion));
            let gained = stream.play(slice(at), &rules, skip_cold && around.cold, around.cap);
            played.gained = played.gained.max(gained);
        }
        played
    }

    fn play_scalar(
        &mut self,
        settings: &ScalarSettings,
        reading: &Reading,
        around: Circumstances,
    ) -> Played {
        let value = |side: &Side| match side {
            Side::Scalar(value) => Some(*value),
            Side::Absent | Side::Increments(_) | Side::Counters(_) => None,
        };
        let worse = scalar::is_worse(settings, value(&reading.primary), value(&reading.canary));
        if let Some(worse) = worse.filter(|_| !(settings.skip_cold && around.cold)) {
            for stream in &mut self.streams {
                let fail = scalar::FAIL_BETS
                    .map(|bet| scalar::log_wealth(bet, scalar::TOLERATED_SHARE, worse));
                let pass =
                    scalar::PASS_BETS.map(|bet| scalar::log_wealth(bet, scalar::BAD_SHARE, worse));
                stream.bettor.play(&fail, around.cap);
                stream.passing.play(&pass);
            }
        }
        Played {
            gained: 0.0,
            phi: Vec::new(),
        }
    }

    /// ln E: the log of the mean of the streams' money; 0 before there is a stream.
    pub(super) fn log_evidence(&self) -> f64 {
        if self.streams.is_empty() {
            return 0.0;
        }
        log_sum_exp(
            self.streams
                .iter()
                .map(|stream| stream.bettor.log_evidence()),
        ) - self.log_streams()
    }

    /// ln P: the least of the streams'; none before there is a stream.
    pub(super) fn log_pass(&self) -> Option<f64> {
        self.streams
            .iter()
            .map(|stream| stream.passing.log_evidence())
            .reduce(f64::min)
    }

    /// ln of the number of streams.
    #[expect(clippy::cast_precision_loss, reason = "at most three streams")]
    pub(super) fn log_streams(&self) -> f64 {
        (self.streams.len() as f64).ln()
    }

    /// The streams that count requests, with how they are judged at the next look.
    pub(super) fn counting<'a>(
        &'a self,
        kind: &'a MetricKind,
    ) -> impl Iterator<Item = (&'a StreamState, Rules)> {
        self.streams
            .iter()
            .enumerate()
            .filter_map(move |(at, stream)| {
                let rules = match kind {
                    MetricKind::Ratio(settings) => ratio_rules(settings, stream.bad_increase),
                    MetricKind::Histogram(settings) => {
                        histogram_rules(settings, self.latency.as_ref()?, at, stream.bad_increase)
                    }
                    MetricKind::Scalar(_) => return None,
                };
                Some((stream, rules))
            })
    }

    /// Whether the primary is too sick for a pass.
    pub(super) fn is_primary_sick(&self, kind: &MetricKind) -> bool {
        let limit = match kind {
            MetricKind::Ratio(settings) => settings.hold_above,
            MetricKind::Histogram(settings) => settings.hold_above,
            MetricKind::Scalar(_) => None,
        };
        limit.is_some_and(|limit| {
            self.streams
                .iter()
                .any(|stream| stream.is_primary_sick(limit))
        })
    }

    /// What a look reports of this metric.
    pub(super) fn detail(&self, kind: &MetricKind, phi: Vec<f64>, alpha: f64) -> Detail {
        let ratio = self
            .counting(kind)
            .map(|(stream, rules)| stream.ratio(&rules, alpha))
            .collect();
        let max_ratio = |latency: &LatencyState| {
            let ratios = |at: usize| latency.ratios.get(at).map(|(max, _)| *max);
            (0..latency.bounds.len()).map(ratios).collect()
        };
        Detail {
            phi,
            ratio,
            bounds: self.latency.as_ref().map(|latency| latency.bounds.clone()),
            max_ratio: self.latency.as_ref().map(max_ratio),
        }
    }

    /// Whether this can be the state of a metric configured so.
    pub(super) fn fits(&self, config: &MetricConfig) -> bool {
        let (fail, pass) = match config.kind {
            MetricKind::Ratio(_) | MetricKind::Histogram(_) => (FAIL_BETS.len(), PASS_BETS.len()),
            MetricKind::Scalar(_) => (scalar::FAIL_BETS.len(), scalar::PASS_BETS.len()),
        };
        let shape = match (&config.kind, &self.latency) {
            (MetricKind::Histogram(_), Some(latency)) => {
                self.streams.len() <= 3 && latency.is_sound(self.streams.len())
            }
            (MetricKind::Ratio(_) | MetricKind::Scalar(_), None) => self.streams.len() == 1,
            (MetricKind::Histogram(_), None)
            | (MetricKind::Ratio(_) | MetricKind::Scalar(_), Some(_)) => false,
        };
        shape
            && self
                .streams
                .iter()
                .all(|stream| stream.is_sound(fail, pass))
    }
}

/// `δ_b` = min(h / w', 0.25): excluded is that all users together would see more than h extra bad
/// requests at the next weight w'.
fn bad_increase(harm: f64, next: f64) -> f64 {
    (harm / next).min(LARGEST_BAD_INCREASE)
}

fn ratio_rules(settings: &RatioSettings, bad_increase: f64) -> Rules {
    Rules {
        tolerated: Boundary {
            ratio: settings.max_ratio,
            increase: settings.max_increase,
        },
        bad: Boundary {
            ratio: settings.bad_ratio,
            increase: bad_increase,
        },
        objective: settings.objective,
        compare: settings.compare,
        dispersion: settings.dispersion,
    }
}

/// Before the ratios are known no slice has canary requests, so 1 stands in unused.
fn histogram_rules(
    settings: &HistogramSettings,
    latency: &LatencyState,
    at: usize,
    bad_increase: f64,
) -> Rules {
    let (max_ratio, bad_ratio) = latency.ratios.get(at).copied().unwrap_or((1.0, 1.0));
    Rules {
        tolerated: Boundary {
            ratio: max_ratio,
            increase: settings.max_increase,
        },
        bad: Boundary {
            ratio: bad_ratio,
            increase: bad_increase,
        },
        objective: settings.objective,
        compare: settings.compare,
        dispersion: settings.dispersion,
    }
}
