"""Model: a prior, decoders and a posterior. Encoders and the rules that join them,
likelihoods, and priors fitted afterwards live here.

A model knows nothing of losses, which are objectives.
"""
