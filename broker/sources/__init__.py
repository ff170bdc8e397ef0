"""Where a broker's policies come from: a folder that is watched, or a git repository that it follows."""
