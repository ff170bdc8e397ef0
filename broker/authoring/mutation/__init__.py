"""`policy test --mutate`: which conditions the examples prove, and an example for each that they do not."""
