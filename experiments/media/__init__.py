"""Pictures, videos, meshes and the camera paths that they follow."""
