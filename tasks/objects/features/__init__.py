"""Object features as ilastik has them: which there are, what is added up for them, what they are in the end."""
