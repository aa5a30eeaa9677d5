"""Load for benchmarks: wrk, an open loop, and a bare echo to compare with."""
