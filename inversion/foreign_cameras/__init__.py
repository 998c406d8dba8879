"""Cameras of frames from elsewhere, brought into EG3D's world."""
