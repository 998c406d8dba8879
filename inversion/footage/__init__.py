"""Square crops and EG3D cameras from raw video or photos of a person."""
