"""What a comparison trains, and on what."""
