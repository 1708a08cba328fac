"""Prunes images: removes tags by rules of the operator (docs/contracts.rst, "Prune").

api      the HTTP call
pruning  reads the storage, has the plan made, and carries it out
stored   what the plan has to know of each tag
plan     decides which tags go (pure)
rules    what one rule says of the tags of one image (pure)
"""
