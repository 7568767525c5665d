"""The kernel: receive, keep, decide, read, report, send."""

__version__ = "0.1.0"
