"""Z axis: which instance owns which key. Pure: it knows snapshots, and nothing of calls, clients or httpx."""
