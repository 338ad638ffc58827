"""The parts of a CI run: `table` reads them, `plan` decides without doing, `running` does, `report` prints.

It runs before there is an environment, on the standard library alone.
"""
