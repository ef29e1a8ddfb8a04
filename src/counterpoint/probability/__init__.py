"""Probability: distributions, their mixtures and products, flows, and Hamiltonian Monte
Carlo.

They know tensors, and neither modalities nor batches.
"""
