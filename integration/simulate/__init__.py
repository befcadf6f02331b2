"""A simulator of load balancing: discrete events in virtual time, around p2plb's real data plane."""
