"""Workers in jobs of a scheduler that stay, and compute single blocks as they are asked for."""
