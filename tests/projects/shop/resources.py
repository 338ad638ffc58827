"""A module of the project that has the same name as a package inside ml_assets."""

PRICE = 2
