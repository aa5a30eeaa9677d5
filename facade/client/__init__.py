"""What a facade asks of registries and nodes."""
