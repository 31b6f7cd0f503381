"""Apps for the gate."""
