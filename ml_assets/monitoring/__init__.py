"""What a monitoring system is told of a Dagster instance, in Prometheus' words.

- `steps`: what became of steps, from the events of runs.
- `prometheus`: the metrics, and the server that a scrape asks.
- `commands`: ``ml-assets metrics``.

Alert rules and a dashboard for them are in ``deployments/monitoring``.
"""
