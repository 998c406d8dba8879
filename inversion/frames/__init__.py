"""Folders of frames and their camera labels: read, checked, mended or refused."""
