"""Speed of MAGI-1."""
