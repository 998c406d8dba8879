"""What is fitted and how it runs: schedules, Adam, steps, stages, saved states, the loop."""
