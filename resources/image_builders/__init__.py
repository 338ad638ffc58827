"""Image builders: one interface, one module per builder.

- `interface`: inputs and results of every builder.
- `build_key`: one digest over all inputs of a build.
- `environment_digest`: one digest over all inputs of its environment stage; `stages` parses the Dockerfile for it.
- `buildkit`: builds and pushes with BuildKit; `buildx` runs the program, `progress` parses its output.
- `environment`: for hosts without container engine; records the interpreter's environment.
"""
