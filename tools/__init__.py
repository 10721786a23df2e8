"""What makes, checks and generates; not part of the package."""
