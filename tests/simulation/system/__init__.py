"""The simulated processes, network, disks and clock."""
