"""The Hazelcast member of a logging node, and the map of recent messages as a projection of the journals."""
