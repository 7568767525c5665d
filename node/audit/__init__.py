"""The audit trail of PS3.15 A.5: its messages, its chained files, the thread that writes them."""
