"""The same latents, cameras and random numbers through NVIDIA's PyTorch code and ours."""
