"""One seam to every archive: send, confirm, query."""
