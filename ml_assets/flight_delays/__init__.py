"""The reference pipeline: how late will a flight leave New York, asked two hours before its schedule.

source → assets ``flights`` and ``weather`` → features → ``departures`` → training → ``delay_model`` → ``predictions``; what
must hold of each is in checks. The computation is in plain functions; assets and checks only connect them.
"""
