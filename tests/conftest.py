"""What every test gets: the check for leaks, and property tests that do not mind a slow machine."""

from hypothesis import settings

from tests.leaks import no_leaks

__all__ = ["no_leaks"]

settings.register_profile("p2plb", deadline=None, database=None)
settings.load_profile("p2plb")
