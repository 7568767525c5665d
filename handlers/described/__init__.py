"""What the handlers that read by a site's `model.toml` share: `classify`, and whatever else reads so."""
