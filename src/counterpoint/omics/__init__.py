"""Omics: what biologists ask of a trained method. Reading their files belongs to
``data``."""
