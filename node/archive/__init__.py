"""Everything that the node asks of an archive: store, confirm, search, fetch."""
