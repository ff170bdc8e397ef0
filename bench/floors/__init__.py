"""The four floors, one file each. The bare ones answer CPU seconds for one operation; `constant` is a server to be driven."""
