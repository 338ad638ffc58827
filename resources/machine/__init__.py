"""The machine and its limits, and what a process takes of them."""
