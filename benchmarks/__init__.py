"""Benchmarks of rmi_jax and its peers: ``python -m benchmarks.run``."""
