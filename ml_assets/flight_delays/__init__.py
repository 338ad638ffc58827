"""The reference pipeline. It predicts departure delays in New York two hours before the scheduled departure.

``flights`` and ``weather`` (source) → ``departures`` (features) → ``delay_model`` and ``predictions`` (training). The
computation is in plain functions; assets and checks only connect them.
"""
