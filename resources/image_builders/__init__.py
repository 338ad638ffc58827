"""How image assets are made: one interface, one module per builder.

- `interface`: what every builder takes and gives.
- `build_key`: what a build is made from, as one digest.
- `environment`: no container engine; names the interpreter's environment.
"""
