"""What can be seen from outside: events and statistics."""
