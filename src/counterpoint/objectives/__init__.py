"""Objectives: the losses that train a model, each a list of routes or a regulariser,
and the stages in which a method takes them."""
