"""What models exist, who serves them and until when."""
