"""What an operator edits, shipped as package data."""
