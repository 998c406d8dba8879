"""Commands: everything that prints, parses flags, reads frames or names a run folder."""

import os

# XLA's loader of cached programs warns of each, by mistake: it takes compiler flags for features of
# the machine. What really fails is raised as well. XLA reads this when it is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
