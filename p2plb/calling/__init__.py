"""The caller's side: what joins registry, balancing and wire into calls, without a word of any httpx."""
