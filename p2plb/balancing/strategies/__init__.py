"""Strategies: functions from nodes to a picker. One file a family."""
