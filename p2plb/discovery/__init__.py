"""The control plane: who is alive."""
