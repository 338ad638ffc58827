"""The machine, its limits, and the resources that a process uses."""
