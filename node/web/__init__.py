"""The node over HTTP: announcements, state, STOW-RS. Nothing here is imported unless `[web]` is enabled."""
