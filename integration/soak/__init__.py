"""Checks that take minutes, as commands; README.md has them and their latest figures."""
