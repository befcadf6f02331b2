"""The `Retry-After` header (RFC 9110, section 10.2.3): what strangers write there becomes seconds or nothing."""

import email.utils
from datetime import UTC, datetime
from typing import Final

LONGEST_HEADER: Final = 64  # no date is longer


def parse_retry_after(value: str | None, wall_clock: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, None if it is absent, garbage or in the past."""
    if not value or len(value) > LONGEST_HEADER:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = email.utils.parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.fromtimestamp(wall_clock, UTC)).total_seconds()
    except (ValueError, OverflowError, TypeError):
        return None
    return seconds if seconds > 0 else None
