"""The weights that ship, and the manifest that says what each is."""
