"""`policy diff`: what a change of policies does to every job there could be, and what it would have done to those that came."""
