"""`policy explain`: the nearest statements, what they missed, and the smallest edit with all that it comes to."""
