"""Registration at the registries, and lookup of services there."""
