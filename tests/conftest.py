"""What every test gets: the check for leaks."""

from tests.leaks import no_leaks

__all__ = ["no_leaks"]
