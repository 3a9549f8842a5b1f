"""What is known of labelled objects: measures of images below them, and their table."""
