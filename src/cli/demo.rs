//! `haldane demo`: two releases in a simulated cluster, side by side.

mod lane;

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write, stdout},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::{Args, builder::PossibleValuesParser};

use self::lane::Lane;
use super::screen::{Line, Style, clock, wrap};
use crate::sim::{
    Scenario, manifests,
    rollout::{Release, RolloutError, perform},
    scenario::NAMES,
};

/// How long the demo takes by itself, in seconds.
const LENGTH: f64 = 15.0;

/// Shortest time between two pictures.
const SHORTEST: Duration = Duration::from_millis(40);

/// Columns from which two releases stand side by side.
const WIDE: usize = 72;

/// Watch two releases in a simulated cluster: one is promoted by thresholds, one is rolled back by
/// the judge
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Simulated seconds that pass in each second; chosen so that the demo takes 15 seconds
    #[arg(long, value_name = "X", value_parser = speed)]
    speed: Option<f64>,
    /// What happens to the second release
    #[arg(
        long,
        value_name = "NAME",
        default_value = "errors",
        value_parser = PossibleValuesParser::new(NAMES)
    )]
    scenario: String,
    /// Another number, other users: the same number gives the same run
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// No colours; so does the variable `NO_COLOR`
    #[arg(long)]
    no_color: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('x').parse::<f64>() {
        Ok(speed) if (0.1..=10_000.0).contains(&speed) => Ok(speed),
        _ => Err("write a number from 0.1 to 10000".to_owned()),
    }
}

/// Shows the demo. Exit status 0 at its end, 1 when it cannot run.
pub fn run(args: &DemoArgs) -> ExitCode {
    let lanes = match lanes(args) {
        Ok(lanes) => lanes,
        Err(error) => {
            eprintln!("haldane: the demo cannot run: {error}");
            return ExitCode::FAILURE;
        }
    };
    let live = stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let shown = if live {
        let colours = !args.no_color && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        play(&lanes, args.speed, colours)
    } else {
        print(&lanes)
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("haldane: the demo cannot be shown: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs both worlds to their ends, each in a thread of its own.
fn lanes(args: &DemoArgs) -> Result<Vec<Lane>, RolloutError> {
    let one = |name: &'static str, judged: bool, scenario: &str, seed: u64| {
        let scenario = Scenario::named(scenario).unwrap_or_default();
        let manifests = if judged {
            manifests::judged_application(name)
        } else {
            manifests::application(name)
        };
        let release = Release {
            seed,
            ..Release::new(manifests, ("default", name), scenario.clone())
        };
        perform(&release).map(|recording| Lane::new(name, judged, &scenario, recording))
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| one("shop", false, "good", args.seed));
        let second = one("cart", true, &args.scenario, args.seed.wrapping_add(1));
        let first = first
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a world ended early").into()));
        Ok(vec![first?, second?])
    })
}

/// One line for each event, as it would have come.
fn print(lanes: &[Lane]) -> io::Result<()> {
    let mut out = stdout().lock();
    for lane in lanes {
        writeln!(out, "{}", lane.headline())?;
    }
    let mut events: Vec<(u64, usize, String)> = Vec::new();
    for (index, lane) in lanes.iter().enumerate() {
        events.extend(lane.lines().map(|(at, line)| (at, index, line)));
    }
    events.sort_by_key(|(at, index, _)| (*at, *index));
    for (at, _, line) in events {
        writeln!(out, "{}  {line}", clock(at))?;
    }
    for lane in lanes {
        for line in lane.summary() {
            writeln!(out, "{}", line.render(false))?;
        }
    }
    out.flush()
}

/// Pictures, one after the other, in place.
fn play(lanes: &[Lane], speed: Option<f64>, colours: bool) -> io::Result<()> {
    let length = lanes.iter().map(Lane::seconds).max().unwrap_or_default();
    let speed = speed.unwrap_or_else(|| (seconds(length) / LENGTH).max(1.0));
    let pause = Duration::from_secs_f64(1.0 / speed);
    let step = SHORTEST.as_nanos().div_ceil(pause.as_nanos().max(1)).max(1);
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    let pause = pause.saturating_mul(u32::try_from(step).unwrap_or(u32::MAX));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut screen = Screen { colours, height: 0 };
    write!(stdout(), "\u{1b}[?25l")?;
    let times = (0..length).step_by(step).chain([length]);
    let played = runtime.block_on(async {
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        for at in times {
            screen.draw(&picture(lanes, at, speed))?;
            if at < length {
                tokio::select! {
                    biased;
                    _ = &mut interrupt => return Ok(false),
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
        Ok::<bool, io::Error>(true)
    });
    let mut out = stdout().lock();
    write!(out, "\u{1b}[?25h")?;
    if played? {
        writeln!(out)?;
        let width = columns().min(100);
        for line in lanes.iter().flat_map(Lane::summary) {
            for part in fold(line, width) {
                writeln!(out, "{}", part.render(colours))?;
            }
        }
    }
    out.flush()
}

/// A line in several when it is too long.
fn fold(line: Line, width: usize) -> Vec<Line> {
    if line.width() <= width {
        return vec![line];
    }
    wrap(&line.render(false), width)
        .into_iter()
        .enumerate()
        .map(|(index, text)| {
            let indent = if index == 0 { "" } else { "  " };
            Line::new().and(Style::Plain, format!("{indent}{text}"))
        })
        .collect()
}

struct Screen {
    colours: bool,
    height: usize,
}

impl Screen {
    /// Draws over the picture before.
    fn draw(&mut self, picture: &[Line]) -> io::Result<()> {
        let mut text = String::new();
        if self.height > 0 {
            // Writing to a string does not fail.
            let _ = write!(text, "\u{1b}[{}A", self.height);
        }
        for line in picture {
            text.push_str(&line.render(self.colours));
            text.push_str("\u{1b}[K\n");
        }
        for _ in picture.len()..self.height {
            text.push_str("\u{1b}[K\n");
        }
        self.height = self.height.max(picture.len());
        let mut out = stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

fn columns() -> usize {
    terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0))
}

fn rows() -> usize {
    terminal_size::terminal_size().map_or(24, |(_, height)| usize::from(height.0))
}

#[allow(clippy::cast_precision_loss, reason = "hours have few seconds")]
fn seconds(count: usize) -> f64 {
    count as f64
}

/// What is shown at a second.
fn picture(lanes: &[Lane], at: usize, speed: f64) -> Vec<Line> {
    let (columns, rows) = (columns(), rows());
    let time = clock(u64::try_from(at).unwrap_or_default());
    let head = Line::new()
        .and(Style::Bold, "haldane demo  ")
        .and(Style::Active, time)
        .and(Style::Dim, format!("  {speed:.0} times as fast"));
    let about = "  the operator's own code in a simulated cluster";
    let head = if head.width() + about.len() < columns {
        head.and(Style::Dim, about)
    } else {
        head
    };
    let mut picture = vec![head.fit(columns.saturating_sub(1)), Line::new()];
    if columns < WIDE {
        let events = rows.saturating_sub(4 + lanes.len() * (lane::FIXED + 1)) / lanes.len().max(1);
        for lane in lanes {
            picture.extend(lane.picture(at, columns.saturating_sub(1), events.clamp(1, 6)));
            picture.push(Line::new());
        }
        return picture;
    }
    let width = ((columns - 4) / 2).min(64);
    let events = rows.saturating_sub(4 + lane::FIXED).clamp(3, 12);
    let mut sides = lanes.iter().map(|lane| lane.picture(at, width, events));
    let (Some(left), Some(right)) = (sides.next(), sides.next()) else {
        return picture;
    };
    for (left, right) in left.into_iter().zip(right) {
        picture.push(
            left.fit(width)
                .and(Style::Dim, " │ ")
                .then(right.fit(width)),
        );
    }
    picture
}
