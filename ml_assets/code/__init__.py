"""How code is read and described, for `ml_assets.code_version`: statements, modules, captured values."""
