"""`policy new` and `policy record`: what a real job says of itself, written as a policy or as an example."""
