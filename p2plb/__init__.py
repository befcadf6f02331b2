"""Peer-to-peer, client-side load balancing."""
