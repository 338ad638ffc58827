"""What a step talks to: the content store, the tracking server, the registry, the image builder."""
