"""Registration at the registries, and looking services up there."""
