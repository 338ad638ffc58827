"""The parts of a CI run: `table` reads them, `plan` decides, `running` executes, `report` prints.

The package runs before the environment exists, so it uses only the standard library.
"""
