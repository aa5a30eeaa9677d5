"""What a person runs: the cluster launcher, the demo and the shell scripts."""
