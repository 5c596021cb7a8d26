"""What the services talk about: frozen dataclasses, no I/O. Each file holds one noun and what belongs to it."""
