"""Run folders: what lies in them, their locks, settings and logs."""
