"""Optimisation in stages: schedules, Adam, steps, stages, saved states, the loop."""
