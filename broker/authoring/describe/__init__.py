"""`policy describe` and `policy matrix`: policies in plain words, the same in every output."""
