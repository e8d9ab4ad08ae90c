//! Questions to the outside: metrics, webhooks, alerts.
