"""Networks without probability: trunks (values to features) and generators (latents to
raw decoder outputs).

A likelihood, a posterior or a loss does not belong here.
"""
