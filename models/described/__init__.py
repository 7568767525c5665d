"""Networks of a site's own, run by their description: arrays in, arrays out."""
