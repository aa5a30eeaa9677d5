"""The duration of a lease and the interval of renewals; registries and registered processes must agree on both."""

RENEWAL_S = 1.0  # interval between two renewals
LEASE_S = 3.0  # three renewals: one may be late, and a dead process is listed no longer than this
