"""What the user wrote: settings, and what is wrong with them."""
