//! Flagger's way of writing flags, so that the arguments of its Deployments keep working.

use std::{collections::BTreeSet, ffi::OsString};

use clap::{Args, Command};

/// Respells arguments, program name first: `-long-name[=v]` becomes `--long-name[=v]` where `run`
/// has a flag of that name, and `run` is added where the flags of `run` stand alone.
pub fn respell(args: impl IntoIterator<Item = OsString>, root: &Command) -> Vec<OsString> {
    let flags = long_flags(root, "run");
    let mut args = args.into_iter();
    let mut respelled: Vec<OsString> = args.next().into_iter().collect();
    let mut first = true;
    let mut literal = false;
    for arg in args {
        let text = arg.to_str().unwrap_or_default();
        literal |= text == "--";
        let name = name_of(text).filter(|_| !literal);
        let known = name.is_some_and(|name| flags.contains(name));
        if first && known {
            respelled.push("run".into());
        }
        let one_dash = !text.starts_with("--");
        let version = first && name == Some("version");
        respelled.push(if one_dash && (known || version) {
            format!("-{text}").into()
        } else {
            arg
        });
        first = false;
    }
    respelled
}

/// Name of a long flag: what stands between the dashes and the equals sign.
fn name_of(arg: &str) -> Option<&str> {
    let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))?;
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    // One letter is a short flag.
    (name.len() > 1).then_some(name)
}

fn long_flags<'a>(root: &'a Command, subcommand: &str) -> BTreeSet<&'a str> {
    root.find_subcommand(subcommand)
        .into_iter()
        .flat_map(Command::get_arguments)
        .flat_map(|arg| {
            let aliases = arg.get_all_aliases().unwrap_or_default();
            arg.get_long().into_iter().chain(aliases)
        })
        .collect()
}

/// Flags of Flagger that mean nothing here; accepted with a warning.
#[derive(Debug, Args)]
#[command(next_help_heading = "Flags of Flagger without effect")]
pub struct IgnoredArgs {
    /// Changes are watched, not polled
    #[arg(long, hide_short_help = true, value_name = "DURATION")]
    control_loop_interval: Option<String>,
    /// Canaries do not wait for each other
    #[arg(long, hide_short_help = true, value_name = "N")]
    threadiness: Option<String>,
    /// Few requests are made; none is held back
    #[arg(long, hide_short_help = true, value_name = "N")]
    kubeconfig_qps: Option<String>,
    /// Few requests are made; none is held back
    #[arg(long, hide_short_help = true, value_name = "N")]
    kubeconfig_burst: Option<String>,
    /// There is one logger
    #[arg(long, hide_short_help = true, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    zap_replace_globals: Option<String>,
    /// Ingresses are not a route API yet
    #[arg(long, hide_short_help = true, value_name = "PREFIX")]
    ingress_annotations_prefix: Option<String>,
    /// Ingresses are not a route API yet
    #[arg(long, hide_short_help = true, value_name = "CLASS")]
    ingress_class: Option<String>,
    /// Routes are written to the cluster of the Canary; a value is refused
    #[arg(long, hide_short_help = true, value_name = "FILE", value_parser = no_value)]
    kubeconfig_service_mesh: Option<String>,
}

impl IgnoredArgs {
    /// Names of the flags that were given.
    pub fn given(&self) -> impl Iterator<Item = &'static str> {
        [
            ("--control-loop-interval", &self.control_loop_interval),
            ("--threadiness", &self.threadiness),
            ("--kubeconfig-qps", &self.kubeconfig_qps),
            ("--kubeconfig-burst", &self.kubeconfig_burst),
            ("--zap-replace-globals", &self.zap_replace_globals),
            (
                "--ingress-annotations-prefix",
                &self.ingress_annotations_prefix,
            ),
            ("--ingress-class", &self.ingress_class),
            ("--kubeconfig-service-mesh", &self.kubeconfig_service_mesh),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.as_ref().map(|_| name))
    }
}

fn no_value(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    Err("routes in another cluster than the Canary's are not supported".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Cli;

    #[derive(Parser)]
    struct IgnoredLine {
        #[command(flatten)]
        ignored: IgnoredArgs,
    }

    fn respelled(args: &[&str]) -> Vec<String> {
        let args = args.iter().map(OsString::from);
        respell(args, &Cli::command())
            .into_iter()
            .map(|arg| arg.into_string().unwrap())
            .collect()
    }

    #[test]
    fn flag_with_one_dash_gets_two() {
        assert_eq!(
            respelled(&["haldane", "run", "-mesh-provider=istio", "-port", "8080"]),
            ["haldane", "run", "--mesh-provider=istio", "--port", "8080"]
        );
        assert_eq!(
            respelled(&["haldane", "run", "-zap-encoding=console"]),
            ["haldane", "run", "--zap-encoding=console"],
            "aliases too"
        );
    }

    #[test]
    fn flags_without_command_mean_run() {
        let expected = ["haldane", "run", "--log-level=info"];
        assert_eq!(respelled(&["haldane", "-log-level=info"]), expected);
        assert_eq!(respelled(&["haldane", "--log-level=info"]), expected);
    }

    #[test]
    fn other_arguments_stay() {
        for args in [
            ["haldane", "run", "-h"],
            ["haldane", "run", "--port=8080"],
            ["haldane", "run", "-unknown=1"],
            ["haldane", "--", "-port=8080"],
        ] {
            assert_eq!(respelled(&args), args);
        }
        assert_eq!(respelled(&["haldane", "--help"]), ["haldane", "--help"]);
    }

    #[test]
    fn flags_of_flagger_without_effect_are_named() {
        let args = IgnoredLine::try_parse_from([
            "run",
            "--threadiness=4",
            "--zap-replace-globals",
            "--kubeconfig-qps=50",
        ])
        .unwrap();
        assert_eq!(
            args.ignored.given().collect::<Vec<_>>(),
            ["--threadiness", "--kubeconfig-qps", "--zap-replace-globals"]
        );
    }
}
