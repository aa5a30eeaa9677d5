"""The status of the cluster, its events, and the metrics of this facade."""
