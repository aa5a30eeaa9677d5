"""Multi-writer log replication with version vectors, acknowledged by all in-sync replicas."""
