"""How the cluster is, and what this facade counts."""
