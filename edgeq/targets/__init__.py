"""Targets: what can be queried, as values; and the one way to open them."""
