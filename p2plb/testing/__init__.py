"""Fakes for tests of p2plb and of programs that use it."""
