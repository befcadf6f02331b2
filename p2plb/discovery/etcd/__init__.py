"""The etcd registry: records, drivers, and the threads that keep both sides fresh."""
