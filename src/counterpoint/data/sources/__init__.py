"""Sources of data that have no name of their own: arrays, folders, images, scverse
files, packed sets, latents."""
