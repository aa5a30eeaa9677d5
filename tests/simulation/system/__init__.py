"""The simulated processes, network, disks and clocks."""
