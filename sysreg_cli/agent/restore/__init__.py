"""Restores deleted tags (docs/contracts.rst, "Restore").

api        the HTTP calls
listing    which tags were deleted
restoring  puts the manifests of a deleted tag back, and then the tag
"""
