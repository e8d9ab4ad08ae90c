//! Services whose requests are drawn slice by slice, without a cluster.

use std::f64::consts::SQRT_2;

use crate::sim::Dice;

/// Seconds between looks.
pub(super) const SLICE: f64 = 15.0;

/// Upper boundaries of Istio's latency buckets, milliseconds.
pub(super) const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Median latency, milliseconds, and its spread (lognormal).
const MEDIAN: f64 = 60.0;
const SIGMA: f64 = 0.8;

/// When a slice is, and how much of the traffic the canary has in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Seconds since the canary began to serve.
    pub seconds: f64,
    /// The canary's share of requests, in \[0, 1\].
    pub share: f64,
}

/// A service and its new version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    /// Requests a second.
    pub rate: f64,
    /// Share of the primary's requests that fail.
    pub errors: fn(Moment) -> f64,
    /// Share of the canary's requests that fail.
    pub canary_errors: fn(Moment) -> f64,
    /// How many times longer the canary's requests take.
    pub slowdown: fn(Moment) -> f64,
    /// Mean size of the bursts in which requests fail (geometric); 1: each by itself.
    pub burst: f64,
    /// Spread of each side's error rate from slice to slice (gamma, coefficient of variation) and
    /// of its latency.
    pub jitter: (f64, f64),
    /// Spread of the error rates and latencies of pods that differ for good: 19 primaries, 1
    /// canary.
    pub pods: (f64, f64),
    /// Whether the canary's pods are warm from the beginning.
    pub warm: bool,
}

/// One side's requests in one slice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Requests {
    /// All.
    pub all: f64,
    /// Those that failed.
    pub failed: f64,
    /// Cumulative over [`BUCKETS`], all of them last.
    pub buckets: [f64; BUCKETS.len() + 1],
}

/// What one release's pods are like: factors on error rate and latency.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pods {
    primary: (f64, f64),
    canary: (f64, f64),
}

impl Service {
    /// The pods of one release.
    pub fn pods(&self, dice: &mut Dice) -> Pods {
        let (errors, latency) = self.pods;
        let mut pod = || {
            (
                (1.0 + errors * dice.normal()).max(0.0),
                (1.0 + latency * dice.normal()).max(0.1),
            )
        };
        let canary = pod();
        let primaries: Vec<(f64, f64)> = (0..19).map(|_| pod()).collect();
        let mean = |value: fn(&(f64, f64)) -> f64| primaries.iter().map(value).sum::<f64>() / 19.0;
        Pods {
            primary: (mean(|pod| pod.0), mean(|pod| pod.1)),
            canary,
        }
    }

    /// The primary's and the canary's requests in the slice before a moment.
    pub fn draw(&self, dice: &mut Dice, pods: Pods, at: Moment) -> [Requests; 2] {
        let side = |dice: &mut Dice, share: f64, errors: f64, latency: f64, pod: (f64, f64)| {
            let (errors_jitter, latency_jitter) = self.jitter;
            let errors = errors * pod.0 * gamma(dice, errors_jitter);
            let latency = latency * pod.1 * (1.0 + latency_jitter * dice.normal()).max(0.1);
            self.requests(dice, share, errors.clamp(0.0, 1.0), latency)
        };
        [
            side(dice, 1.0 - at.share, (self.errors)(at), 1.0, pods.primary),
            side(
                dice,
                at.share,
                (self.canary_errors)(at),
                (self.slowdown)(at),
                pods.canary,
            ),
        ]
    }

    fn requests(&self, dice: &mut Dice, share: f64, errors: f64, latency: f64) -> Requests {
        let all = poisson(dice, self.rate * share * SLICE);
        let failed = if self.burst > 1.0 {
            let bursts = poisson(dice, all * errors / self.burst);
            let mut failed = 0.0;
            let mut left = bursts;
            while left > 0.0 {
                failed += geometric(dice, self.burst);
                left -= 1.0;
            }
            failed.min(all)
        } else {
            binomial(dice, all, errors)
        };
        let mut buckets = [all; BUCKETS.len() + 1];
        // From the slowest down: of the requests up to a boundary, those up to the one before.
        let (mut count, mut below) = (all, 1.0);
        for (bucket, le) in buckets.iter_mut().zip(BUCKETS).rev() {
            let share = faster_than(le / latency);
            count = binomial(dice, count, (share / below).min(1.0));
            below = share.max(f64::MIN_POSITIVE);
            *bucket = count;
        }
        Requests {
            all,
            failed,
            buckets,
        }
    }
}

/// Share of requests that take at most this long, milliseconds.
fn faster_than(time: f64) -> f64 {
    let z = (time / MEDIAN).ln() / SIGMA;
    0.5 * (1.0 + erf(z / SQRT_2))
}

/// The error function to 1.5e-7 (Abramowitz and Stegun, 7.1.26).
fn erf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let polynomial = t
        * (0.254_829_592
            + t * (-0.284_496_736
                + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    (1.0 - polynomial * (-x * x).exp()).copysign(x)
}

/// From this variance on, counts are drawn from a normal distribution.
const MANY: f64 = 200.0;

fn poisson(dice: &mut Dice, mean: f64) -> f64 {
    if mean > MANY {
        return (mean + mean.sqrt() * dice.normal()).round().max(0.0);
    }
    // Arrivals until the time is over.
    let (mut time, mut count) = (0.0, 0.0);
    loop {
        time -= (1.0 - dice.fraction()).ln();
        if time > mean {
            return count;
        }
        count += 1.0;
    }
}

/// How many of `n` independent requests meet a chance.
fn binomial(dice: &mut Dice, n: f64, chance: f64) -> f64 {
    if chance > 0.5 {
        return n - binomial(dice, n, 1.0 - chance);
    }
    if n <= 0.0 || chance <= 0.0 {
        return 0.0;
    }
    let variance = n * chance * (1.0 - chance);
    if variance > MANY {
        return (n * chance + variance.sqrt() * dice.normal())
            .round()
            .clamp(0.0, n);
    }
    // From one that does to the next.
    let miss = (-chance).ln_1p();
    let (mut at, mut count) = (0.0, 0.0);
    loop {
        at += ((1.0 - dice.fraction()).ln() / miss).floor() + 1.0;
        if at > n {
            return count;
        }
        count += 1.0;
    }
}

/// At least 1, with this mean.
fn geometric(dice: &mut Dice, mean: f64) -> f64 {
    1.0 + ((1.0 - dice.fraction()).ln() / (-1.0 / mean).ln_1p()).floor()
}

/// A factor of mean 1 with this coefficient of variation. The shape 1/cv² is rounded to a whole
/// number, so that the factor is a sum of waiting times.
fn gamma(dice: &mut Dice, variation: f64) -> f64 {
    if variation <= 0.0 {
        return 1.0;
    }
    let shape = (1.0 / (variation * variation)).round().max(1.0);
    let (mut sum, mut left) = (0.0, shape);
    while left > 0.0 {
        sum -= (1.0 - dice.fraction()).ln();
        left -= 1.0;
    }
    sum / shape
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Service = Service {
        rate: 100.0,
        errors: |_| 0.01,
        canary_errors: |_| 0.05,
        slowdown: |_| 2.0,
        burst: 1.0,
        jitter: (0.0, 0.0),
        pods: (0.0, 0.0),
        warm: false,
    };

    fn sums(service: Service, slices: u32) -> [Requests; 2] {
        let mut dice = Dice::new(3);
        let pods = service.pods(&mut dice);
        let mut sums = [Requests::default(); 2];
        for _ in 0..slices {
            let at = Moment {
                seconds: 15.0,
                share: 0.2,
            };
            for (sum, drawn) in sums.iter_mut().zip(service.draw(&mut dice, pods, at)) {
                sum.all += drawn.all;
                sum.failed += drawn.failed;
                for (sum, drawn) in sum.buckets.iter_mut().zip(drawn.buckets) {
                    *sum += drawn;
                }
            }
        }
        sums
    }

    fn near(found: f64, wanted: f64, tolerance: f64) {
        assert!(
            (found - wanted).abs() <= tolerance * wanted,
            "{found}, not {wanted}"
        );
    }

    #[test]
    fn requests_have_the_rates_that_the_service_has() {
        for burst in [1.0, 5.0] {
            let [primary, canary] = sums(Service { burst, ..PLAIN }, 2000);
            near(primary.all, 2.4e6, 0.01);
            near(canary.all, 6e5, 0.01);
            near(primary.failed / primary.all, 0.01, 0.05);
            near(canary.failed / canary.all, 0.05, 0.05);
        }
    }

    #[test]
    fn buckets_have_the_shares_of_a_lognormal_distribution() {
        let [primary, canary] = sums(PLAIN, 500);
        // ln(100/60)/0.8 = 0.6385 deviations, ln(50/60)/0.8 = −0.2279.
        near(primary.buckets[6] / primary.all, 0.7385, 0.005);
        near(primary.buckets[5] / primary.all, 0.4099, 0.01);
        near(canary.buckets[6] / canary.all, 0.4099, 0.01);
        for side in [primary, canary] {
            assert!(side.buckets.windows(2).all(|pair| pair[0] <= pair[1]));
            near(side.buckets[19], side.all, 1e-12);
        }
    }

    #[test]
    fn jitter_leaves_the_mean_as_it_is() {
        let service = Service {
            jitter: (0.5, 0.05),
            ..PLAIN
        };
        let [primary, _] = sums(service, 2000);
        near(primary.failed / primary.all, 0.01, 0.05);
    }
}
