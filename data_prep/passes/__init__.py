"""The passes of the offline stage, each a set of independent tasks whose results lie on disk."""
