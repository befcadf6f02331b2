"""The instance's side: registration and drain."""
