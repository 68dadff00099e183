"""Studies: objectives compared on the same data, seeds and held-out words."""
