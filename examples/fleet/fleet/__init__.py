"""The two apps of a fleet, as Flower finds them."""
