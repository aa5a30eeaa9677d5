"""Load generators for benchmarks: wrk, an open loop, and a bare echo server as a baseline."""
