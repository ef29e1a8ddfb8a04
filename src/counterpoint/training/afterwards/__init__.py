"""What is fitted to a trained method afterwards: priors, diffusion decoders, refiners."""
