"""Monitoring: metrics of a Dagster instance, in Prometheus' format.

- `steps`: counts step launches, outcomes and costs from the events of runs.
- `prometheus`: the metrics, and the server that answers scrapes.
- `commands`: ``ml-assets metrics``.

Alert rules and a dashboard for them are in ``deployments/monitoring``.
"""
