"""Folders of frames and their camera labels: read, check, repair or refuse."""
