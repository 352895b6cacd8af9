"""What attention does over pictures: gates drawn, and their statistics."""
