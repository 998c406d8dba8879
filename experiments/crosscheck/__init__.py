"""Compare NVIDIA's PyTorch code with ours on the same latents, cameras and random numbers."""
