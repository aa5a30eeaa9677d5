"""The replication core: a state machine without I/O, clock or chance. See DESIGN.md in the folder above."""
