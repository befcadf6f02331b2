"""The data plane, pure: which node next, and what now."""
