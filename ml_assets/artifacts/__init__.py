"""What makes an ordinary function an artifact: the factory, its inputs, its storage, and the record of a step."""
