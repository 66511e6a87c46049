"""Which number deserves trust: every score on models of which it is known whether they have the knowledge."""
