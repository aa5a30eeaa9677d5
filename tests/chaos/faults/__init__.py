"""The faults, and the clusters that they are done to."""
