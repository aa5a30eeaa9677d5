"""How long a registration counts, and how often it is renewed: registries and whoever registers must agree on both."""

RENEWAL_S = 1.0  # between two renewals
LEASE_S = 3.0  # three of them: one may be late, and whoever died is handed out no longer
