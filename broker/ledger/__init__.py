"""Remember what was issued, durably and provably."""
