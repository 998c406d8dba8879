"""Commands: everything that prints, parses flags, reads frames or names a run folder."""
