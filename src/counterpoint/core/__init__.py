"""Core: the records that every layer speaks (modality, batch, latents), how values are
read into them, and files, noise and checks.

Nothing here knows of models or of training.
"""
