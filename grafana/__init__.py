"""Grafana's dashboards as code, and what Prometheus and Alertmanager are told. `make generate` writes dashboards/."""
