//! `haldane run`: the operator. Flags are named as Flagger's.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{ArgAction, Args};
use serde::{Deserialize, de::value::StrDeserializer};

use super::flagger::IgnoredArgs;
use crate::{
    api::{Provider, duration},
    controller::{
        self,
        lease::Timing,
        options::{ApiServer, Election, Notifier, RunOptions, Sensitive},
    },
    measure::Egress,
    settings::Settings,
    telemetry::logs::{self, Format},
};

/// Flags of `haldane run`.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each flag is a choice of its own"
)]
pub struct RunArgs {
    /// File with the API server's address and credentials; default: $KUBECONFIG,
    /// ~/.kube/config or those of the pod
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    kubeconfig: Option<PathBuf>,

    /// Address of the API server, in place of the kubeconfig's
    #[arg(long, value_name = "URL", help_heading = "Cluster")]
    master: Option<http::Uri>,

    /// Look after the Canaries of these namespaces only; repeat it or separate by commas
    #[arg(
        long,
        env = "WATCH_NAMESPACE",
        value_name = "NAMESPACE",
        value_delimiter = ',',
        help_heading = "Cluster"
    )]
    namespace: Vec<String>,

    /// Name of the cluster, for alerts
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    cluster_name: Option<String>,

    /// Route API of Canaries that name none in spec.provider, for example istio,
    /// gatewayapi:v1 or kubernetes
    #[arg(
        long,
        value_name = "API",
        default_value = "istio",
        value_parser = provider,
        help_heading = "Releases"
    )]
    mesh_provider: Provider,

    /// Prometheus server of Canaries that name none in spec.metricsServer
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://prometheus:9090",
        help_heading = "Releases"
    )]
    metrics_server: String,

    /// Labels of which one must be in a workload's selector, in order of preference
    #[arg(
        long,
        value_name = "LABEL",
        value_delimiter = ',',
        default_value = "app,name,app.kubernetes.io/name",
        help_heading = "Releases"
    )]
    selector_labels: Vec<String>,

    /// Prefixes of the labels that primaries take over from the workload; * for all
    #[arg(
        long,
        value_name = "PREFIX",
        value_delimiter = ',',
        help_heading = "Releases"
    )]
    include_label_prefix: Vec<String>,

    /// Give the primary copies of the ConfigMaps and Secrets that the workload uses, and start a
    /// release when they change
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        help_heading = "Releases"
    )]
    enable_config_tracking: bool,

    /// Refuse Canaries that refer to metric templates or alert providers of other namespaces
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        help_heading = "Releases"
    )]
    no_cross_namespace_refs: bool,

    /// How long pods stay after their traffic was taken away, for example 90s or 2m
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "2m",
        value_parser = duration::parse,
        help_heading = "Releases"
    )]
    drain: Duration,

    /// Let one replica work at a time. Turn it off only where no second one can ever run
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        help_heading = "Leader election"
    )]
    enable_leader_election: bool,

    /// Namespace of the Lease; default: the first of --namespace, else kube-system
    #[arg(long, value_name = "NAMESPACE", help_heading = "Leader election")]
    leader_election_namespace: Option<String>,

    /// Name of the Lease; Flagger's own, so that the two never work at the same time
    #[arg(
        long,
        value_name = "NAME",
        default_value = "flagger-leader-election",
        help_heading = "Leader election"
    )]
    leader_election_lease: String,

    /// How long a silent leader keeps the Lease. It stops by itself after two thirds of that
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "15s",
        value_parser = timing,
        help_heading = "Leader election"
    )]
    leader_election_lease_duration: Timing,

    /// Let Canaries, metric templates and alert providers name addresses of the operator's own
    /// host, such as a Prometheus beside it. Off, so that they cannot reach what only it can
    #[arg(
        long,
        env = "ALLOW_LOOPBACK",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        help_heading = "Network"
    )]
    allow_loopback: bool,

    /// error, warn, info, debug or trace, or a filter such as `haldane::apply=debug,info`
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "info",
        help_heading = "Telemetry"
    )]
    log_level: String,

    /// How log lines are written
    #[arg(
        long,
        alias = "zap-encoding",
        value_enum,
        default_value_t = Format::Json,
        help_heading = "Telemetry"
    )]
    log_format: Format,

    /// TCP port of /metrics, /healthz and /readyz
    #[arg(long, default_value_t = 8080, help_heading = "Telemetry")]
    port: u16,

    #[command(flatten)]
    alerts: AlertArgs,

    #[command(flatten)]
    ignored: IgnoredArgs,
}

/// Alerts of Canaries that name no alert provider.
#[derive(Debug, Args)]
#[command(next_help_heading = "Alerts of Canaries that name no alert provider")]
struct AlertArgs {
    /// Slack incoming webhook
    #[arg(long, env = "SLACK_URL", value_name = "URL", hide_env_values = true)]
    slack_url: Option<String>,
    /// Slack bot token, where messages are sent through the API
    #[arg(
        long,
        env = "SLACK_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    slack_token: Option<String>,
    /// HTTP proxy on the way to Slack
    #[arg(long, env = "SLACK_PROXY_URL", value_name = "URL")]
    slack_proxy_url: Option<String>,
    /// Name that Slack messages are signed with
    #[arg(long, value_name = "NAME", default_value = "flagger")]
    slack_user: String,
    /// Slack channel; default: the webhook's own
    #[arg(long, value_name = "CHANNEL")]
    slack_channel: Option<String>,
    /// Microsoft Teams incoming webhook
    #[arg(long, env = "MSTEAMS_URL", value_name = "URL", hide_env_values = true)]
    msteams_url: Option<String>,
    /// HTTP proxy on the way to Microsoft Teams
    #[arg(long, env = "MSTEAMS_PROXY_URL", value_name = "URL")]
    msteams_proxy_url: Option<String>,
    /// Post every event to this address
    #[arg(
        long,
        env = "EVENT_WEBHOOK_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    event_webhook: Option<String>,
}

/// A text; manifests may write its absence as an empty one.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn list(values: Vec<String>) -> impl Iterator<Item = String> {
    values
        .into_iter()
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}

/// A route API by its name; Flagger's default where the text is empty.
pub(super) fn provider(text: &str) -> Result<Provider, serde::de::value::Error> {
    if text.is_empty() {
        return Ok(Settings::default().mesh_provider);
    }
    Provider::deserialize(StrDeserializer::new(text))
}

/// A boolean as Go's flags spell it.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("found {other:?}; write true or false")),
    }
}

fn timing(text: &str) -> Result<Timing, String> {
    let lease = duration::parse(text).map_err(|error| error.to_string())?;
    Timing::of(lease).ok_or_else(|| format!("found {text}; a lease lasts 3s to 5m"))
}

impl RunArgs {
    /// What decisions depend on.
    pub fn settings(&self) -> Settings {
        let default = Settings::default();
        let labels: Vec<_> = list(self.selector_labels.clone()).collect();
        Settings {
            mesh_provider: self.mesh_provider,
            metrics_server: given(Some(self.metrics_server.clone()))
                .unwrap_or(default.metrics_server),
            selector_labels: if labels.is_empty() {
                default.selector_labels
            } else {
                labels
            },
            include_label_prefix: list(self.include_label_prefix.clone()).collect(),
            config_tracking: self.enable_config_tracking,
            no_cross_namespace_refs: self.no_cross_namespace_refs,
            cluster_name: given(self.cluster_name.clone()),
            drain: self.drain,
        }
    }

    /// Everything that the operator is told.
    pub fn into_options(self) -> RunOptions {
        let settings = self.settings();
        let election = self.enable_leader_election.then(|| Election {
            namespace: given(self.leader_election_namespace)
                .or_else(|| list(self.namespace.clone()).next())
                .unwrap_or_else(|| "kube-system".to_owned()),
            lease: self.leader_election_lease,
            timing: self.leader_election_lease_duration,
        });
        RunOptions {
            settings,
            server: ApiServer {
                kubeconfig: self.kubeconfig,
                address: self.master,
            },
            namespaces: list(self.namespace).collect(),
            port: self.port,
            election,
            egress: Egress {
                loopback: self.allow_loopback,
            },
            event_webhook: given(self.alerts.event_webhook.clone()).map(Sensitive::new),
            notifier: self.alerts.into_notifier(),
        }
    }
}

impl AlertArgs {
    /// Slack before Teams, as Flagger does where both are given.
    fn into_notifier(self) -> Option<Notifier> {
        if let Some(url) = given(self.slack_url) {
            return Some(Notifier::Slack {
                url: Sensitive::new(url),
                token: given(self.slack_token).map(Sensitive::new),
                proxy: given(self.slack_proxy_url),
                user: self.slack_user,
                channel: given(self.slack_channel),
            });
        }
        given(self.msteams_url).map(|url| Notifier::MsTeams {
            url: Sensitive::new(url),
            proxy: given(self.msteams_proxy_url),
        })
    }
}

/// Runs the operator until it is told to stop, or loses the lead.
pub fn run(args: RunArgs) -> ExitCode {
    if let Err(error) = logs::start(&args.log_level, args.log_format) {
        eprintln!("haldane: {error}");
        return ExitCode::from(2);
    }
    for flag in args.ignored.given() {
        tracing::warn!(flag, "this flag of Flagger has no effect");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(controller::run(args.into_options())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "stopped");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    fn parsed(args: &[&str]) -> Result<RunArgs, clap::Error> {
        Line::try_parse_from(["run"].iter().chain(args)).map(|line| line.run)
    }

    #[test]
    fn settings_without_flags_are_the_defaults() {
        assert_eq!(parsed(&[]).unwrap().settings(), Settings::default());
    }

    #[test]
    fn settings_follow_the_flags() {
        let args = [
            "--mesh-provider=gatewayapi:v1",
            "--metrics-server=http://p.monitoring:9090",
            "--selector-labels=app, tier",
            "--include-label-prefix=app.kubernetes.io,team",
            "--enable-config-tracking=false",
            "--no-cross-namespace-refs",
            "--cluster-name=blue",
            "--drain=30s",
        ];
        assert_eq!(
            parsed(&args).unwrap().settings(),
            Settings {
                mesh_provider: Provider::GatewayApiV1,
                metrics_server: "http://p.monitoring:9090".to_owned(),
                selector_labels: vec!["app".to_owned(), "tier".to_owned()],
                include_label_prefix: vec!["app.kubernetes.io".to_owned(), "team".to_owned()],
                config_tracking: false,
                no_cross_namespace_refs: true,
                cluster_name: Some("blue".to_owned()),
                drain: Duration::from_secs(30),
            }
        );
    }

    #[test]
    fn flags_with_empty_values_mean_the_defaults() {
        let args = [
            "--mesh-provider=",
            "--metrics-server=",
            "--selector-labels=",
            "--include-label-prefix=",
            "--namespace=",
            "--kubeconfig-service-mesh=",
            "--slack-url=",
            "--event-webhook=",
        ];
        let options = parsed(&args).unwrap().into_options();
        assert_eq!(options, parsed(&[]).unwrap().into_options());
        assert_eq!(options.settings, Settings::default());
        assert_eq!(options.namespaces, BTreeSet::new());
        assert_eq!(options.notifier, None);
    }

    #[test]
    fn namespaces_are_repeated_or_separated_by_commas() {
        let options = parsed(&["--namespace=b,a", "--namespace", "c"])
            .unwrap()
            .into_options();
        assert_eq!(
            options.namespaces,
            BTreeSet::from(["a", "b", "c"].map(str::to_owned))
        );
        assert_eq!(
            options.election.map(|election| election.namespace),
            Some("b".to_owned()),
            "the lease is in the first of them"
        );
    }

    #[test]
    fn leader_election_is_on_unless_turned_off() {
        for (args, namespace) in [
            (&[][..], Some("kube-system")),
            (&["--enable-leader-election"][..], Some("kube-system")),
            (&["--enable-leader-election=False"][..], None),
            (
                &["--namespace=test", "--leader-election-namespace=ops"][..],
                Some("ops"),
            ),
        ] {
            let election = parsed(args).unwrap().into_options().election;
            assert_eq!(
                election.as_ref().map(|e| e.namespace.as_str()),
                namespace,
                "{args:?}"
            );
        }
    }

    #[test]
    fn loopback_is_called_only_when_allowed() {
        for (args, loopback) in [
            (&[][..], false),
            (&["--allow-loopback"][..], true),
            (&["--allow-loopback=false"][..], false),
        ] {
            let egress = parsed(args).unwrap().into_options().egress;
            assert_eq!(egress, Egress { loopback }, "{args:?}");
        }
    }

    #[test]
    fn notifier_is_slack_before_teams() {
        let options = parsed(&["--slack-url=https://s", "--msteams-url=https://t"])
            .unwrap()
            .into_options();
        assert_eq!(
            options.notifier,
            Some(Notifier::Slack {
                url: Sensitive::new("https://s"),
                token: None,
                proxy: None,
                user: "flagger".to_owned(),
                channel: None,
            })
        );
        assert!(matches!(
            parsed(&["--msteams-url=https://t"])
                .unwrap()
                .into_options()
                .notifier,
            Some(Notifier::MsTeams { .. })
        ));
    }

    #[test]
    fn flags_that_cannot_be_obeyed_are_refused_with_what_was_found() {
        for (arg, found) in [
            ("--mesh-provider=consul", "consul"),
            ("--drain=soon", "soon"),
            ("--enable-leader-election=maybe", "maybe"),
            ("--kubeconfig-service-mesh=/other", "another cluster"),
            ("--leader-election-lease-duration=1s", "3s to 5m"),
            ("--log-format=xml", "xml"),
        ] {
            let error = parsed(&[arg]).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(found), "{arg}: {error}");
        }
    }
}
