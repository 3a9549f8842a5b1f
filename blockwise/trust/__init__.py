"""Why a result can be believed: it is ours, was made of what was there, and has reached the disk."""
