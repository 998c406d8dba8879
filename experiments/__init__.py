"""Commands: option parsing, progress on the screen, run folders, reports."""
