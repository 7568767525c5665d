"""What the node counts and measures, for Prometheus; `families.py` has every metric by its name."""
