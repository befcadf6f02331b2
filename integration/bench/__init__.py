"""Measurements; README.md has the commands and the latest figures."""
