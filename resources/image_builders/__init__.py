"""How image assets are made: one interface, one module per builder.

- `interface`: what every builder takes and gives.
- `build_key`: what a build is made from, as one digest.
- `environment_digest`: what its environment stage is built from, as one digest; `stages` reads the Dockerfile for it.
- `buildkit`: builds and pushes with BuildKit; `buildx` runs the program, `progress` reads what it prints.
- `environment`: no container engine; names the interpreter's environment.
"""
