"""The console: pages for people, beside the interface for machines."""
