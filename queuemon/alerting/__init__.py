"""What leaves the house: metrics for Prometheus, alert rules, PagerDuty, a Grafana board."""
