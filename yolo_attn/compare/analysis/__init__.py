"""What the numbers of a comparison show."""
