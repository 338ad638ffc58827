"""The lineage index: tables beside the event log, filled from it, that can be thrown away and made again."""
