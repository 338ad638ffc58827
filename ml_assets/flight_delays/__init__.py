"""The reference pipeline: how late will a flight leave New York, asked two hours before its schedule.

``flights`` and ``weather`` (source) → ``departures`` (features) → ``delay_model`` and ``predictions`` (training). The
computation is in plain functions; assets and checks only connect them.
"""
